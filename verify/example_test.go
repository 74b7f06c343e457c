package verify_test

import (
	"context"
	"fmt"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// An image of two layers whose config names them in the wrong order.
func ExampleCheck() {
	img := verifytest.Swapped(verifytest.Honest(2))
	repo := verifytest.Repo(img.Blobs())

	mediaType, body := img.Manifest()
	report, err := verify.Check(context.Background(), repo, mediaType, body)
	if err != nil {
		fmt.Println(err) // an error of repo: nothing is known about the image
		return
	}
	fmt.Println(report.Verdict)
	for _, f := range report.Findings {
		fmt.Println(f.Layer, f.Reason, f.Cause)
	}
	// Output:
	// mismatch
	// 0 diff_id_mismatch reversed
	// 1 diff_id_mismatch reversed
}

// A layer is hashed while it is on its way to somewhere else.
func ExampleHasher() {
	tar := verifytest.Tar("etc/motd", "hello\n")
	h := verify.NewHasher(verify.Limits{})
	defer h.Close() // after Sum it does nothing
	fmt.Fprintf(h, "%s", verifytest.Gzip(tar))

	f := h.Sum()
	fmt.Println(f.Encoding, f.UnpackedSize == int64(len(tar)))
	fmt.Println(verify.DiffID(f.Unpacked) == verify.DiffID(verifytest.TarLayer(tar).DiffID()))
	// Output:
	// gzip true
	// true
}
