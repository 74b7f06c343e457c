package settings_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"diffgate/cmd/proxy/settings"
)

// compare takes an empty list for the same as none.
var compare = []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})}

const shipped = "../../../config.yml"

func readShipped(t *testing.T) []byte {
	t.Helper()
	in, err := os.ReadFile(filepath.FromSlash(shipped))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestShippedFileIsTheDefault(t *testing.T) {
	got, _, err := settings.Parse("config.yml", readShipped(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(settings.Default(), got, compare...); diff != "" {
		t.Errorf("config.yml differs from Default (-want +got):\n%s", diff)
	}
}

func TestShippedFileHasEveryKey(t *testing.T) {
	_, origin, err := settings.Parse("config.yml", readShipped(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[settings.Settings]()) {
		if !strings.HasPrefix(origin.Keys[key], "config.yml:") {
			t.Errorf("config.yml does not have %s", key)
		}
	}
}

// keysOf returns the full name of every key in a section of type t.
func keysOf(t reflect.Type) []string {
	var keys []string
	for _, field := range reflect.VisibleFields(t) {
		name := strings.ToLower(field.Name)
		if field.Type.Kind() != reflect.Struct {
			keys = append(keys, name)
			continue
		}
		for _, key := range keysOf(field.Type) {
			keys = append(keys, name+"."+key)
		}
	}
	return keys
}

func TestNamesHaveNoUnderscore(t *testing.T) {
	t.Parallel()
	for _, key := range keysOf(reflect.TypeFor[settings.Settings]()) {
		if strings.Contains(key, "_") {
			t.Errorf("no variable can set %s: an underscore separates sections", key)
		}
	}
}
