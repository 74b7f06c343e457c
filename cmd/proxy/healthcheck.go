package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/settings"
)

func newHealthcheck() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck [CONFIG]",
		Short: "Ask a running proxy on this machine whether it is ready",
		Long: `Healthcheck asks /readyz on http.debug.addr, or /v2/ on http.addr when there is
no admin listener. It exits 0 if the answer is 200, or to /v2/ a demand for
credentials, and 1 otherwise. It is for images that have no shell.

` + configHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, err := load(args)
			if err != nil {
				return err
			}
			return healthcheck(cmd, s)
		},
	}
}

func healthcheck(cmd *cobra.Command, s settings.Settings) error {
	url := "http://" + local(s.HTTP.Debug.Addr) + "/readyz"
	if s.HTTP.Debug.Addr == "" {
		url = "http://" + local(s.HTTP.Addr) + "/v2/"
		if s.HTTP.TLS.Certificate != "" {
			url = "https://" + local(s.HTTP.Addr) + "/v2/"
		}
	}
	client := &http.Client{
		Timeout: 8 * time.Second,
		// The certificate names the public host, not this one; no secret is sent.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("not ready: %s answered %s", url, res.Status)
	}
	return nil
}

// local makes a listen address one to connect to: no host, or the address of
// every interface, is this machine.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
