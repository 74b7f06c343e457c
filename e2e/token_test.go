package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rogpeppe/go-internal/testscript"
)

// tokenService is the registry that tokens are for.
const tokenService = "registry.test"

// issuer NAME USER PASSWORD: run a service that gives out tokens: to the user for
// everything, to who names nobody for pulls. The variable NAME is its address.
// A registry2 that is started afterwards asks for its tokens.
func issuer(ts *testscript.TestScript, _ bool, args []string) {
	signer, root := newSigner(ts)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, named := r.BasicAuth()
		if named && (user != args[1] || password != args[2]) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		text, err := jwt.Signed(signer).Claims(claims(user, r.URL.Query()["scope"])).Serialize()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": text}) // or the client is gone
	}))
	ts.Defer(s.Close)
	bundle := ts.MkAbs(args[0] + ".pem")
	ts.Check(os.WriteFile(bundle, root, 0o644))
	ts.Setenv(args[0], s.Listener.Addr().String())
	ts.Setenv("REGISTRY_AUTH", fmt.Sprintf("{token: {realm: %q, service: %s, issuer: issuer.test, rootcertbundle: %q}}",
		s.URL+"/token", tokenService, bundle))
}

// newSigner returns a signer of tokens, and its certificate for registries.
func newSigner(ts *testscript.TestScript) (jose.Signer, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	ts.Check(err)
	header := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(der)})
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, header)
	ts.Check(err)
	return signer, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// claims are what a user may have of the scopes.
func claims(user string, scopes []string) any {
	now := time.Now()
	access := []token.ResourceActions{}
	for scope := range strings.FieldsSeq(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndex(rest, ":")
		actions := strings.Split(rest[at+1:], ",")
		if user == "" {
			actions = slices.DeleteFunc(actions, func(a string) bool { return a != "pull" })
		}
		access = append(access, token.ResourceActions{Type: kind, Name: rest[:max(at, 0)], Actions: actions})
	}
	return map[string]any{"iss": "issuer.test", "sub": user, "aud": tokenService, "jti": rand.Text(), "access": access,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()}
}
