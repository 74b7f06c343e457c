package settings_test

import (
	"testing"

	"diffgate/cmd/proxy/settings"
)

func TestSize(t *testing.T) {
	t.Parallel()
	tests := []struct {
		about string
		text  string
		want  settings.Size
		str   string
	}{
		{"A plain number is bytes.", "4194304", 4 * settings.MiB, "4MiB"},
		{"Zero has no unit.", "0", 0, "0"},
		{"Units are binary.", "512KiB", 512 * settings.KiB, "512KiB"},
		{"Units without i are binary too.", "1GB", settings.GiB, "1GiB"},
		{"Units may be one letter, in either case.", "2t", 2 * settings.TiB, "2TiB"},
		{"There may be a space before the unit.", "4 MiB", 4 * settings.MiB, "4MiB"},
		{"Fractions are cut to bytes.", "1.5KiB", 1536, "1536"},
		{"The text is exact.", "1025KiB", 1025 * settings.KiB, "1025KiB"},
		{"The largest unit is TiB.", "3P", 3072 * settings.TiB, "3072TiB"},
	}
	for _, test := range tests {
		var got settings.Size
		if err := got.UnmarshalText([]byte(test.text)); err != nil || got != test.want {
			t.Errorf("%s %q: got %d, %v, want %d", test.about, test.text, int64(got), err, int64(test.want))
		}
		if got.String() != test.str {
			t.Errorf("%s %q: got text %q, want %q", test.about, test.text, got, test.str)
		}
	}
}

func TestSizeErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "-1", "-4MiB", "4XB", "MiB", "4MiB/s", "NaN", "1e30", "9000000P"} {
		size := settings.MiB
		if err := size.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d, want an error", text, int64(size))
		}
		if size != settings.MiB {
			t.Errorf("%q: changed to %d", text, int64(size))
		}
	}
}
