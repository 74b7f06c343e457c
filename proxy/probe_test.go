package proxy_test
import ("testing";"net/http";"io";"time";"strings")
func TestProbe(t *testing.T) {
	for range 30 {
		up := newUpstream(t, http.HandlerFunc(unauthorized))
		base := newProxy(t, up.URL, nil).URL
		c := dialRaw(t, base)
		st := time.Now()
		done := make(chan bool)
		go func() {
			io.WriteString(c, "PUT /v2/a/blobs/uploads/u?digest="+objectDigest+" HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n")
			piece := "8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n"
			for { if _, err := io.WriteString(c, piece); err != nil { t.Log("write", err, time.Since(st)); break } }
			close(done)
		}()
		b, err := io.ReadAll(c)
		t.Logf("%.30q %v %v", b, err, time.Since(st))
		<-done
	}
}
