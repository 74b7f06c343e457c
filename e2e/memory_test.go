package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// dockerlie IMAGE LAYER DIGEST: make docker push a lie. The engine remembers
// under which digest it pushed a layer; after this it takes a blob, which must
// be in the repository, for that layer, and IMAGE's next push names the wrong
// blob. Poisoned memories of this kind are how such images came into the world.
func dockerLie(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	memory := filepath.Join(engineStore(ts, "v2metadata-by-diffid"), diffIDs(ts, args[0])[n-1].Encoded())
	truth, err := os.ReadFile(memory)
	ts.Check(err)
	truths := ts.Value(memoriesKey{}).(map[string][]byte)
	if _, lied := truths[memory]; !lied {
		truths[memory] = truth
		ts.Defer(func() { ts.Check(os.WriteFile(memory, truth, 0o644)) })
	}
	var places []struct {
		Digest           digest.Digest
		SourceRepository string
		HMAC             string `json:",omitempty"`
	}
	ts.Check(json.Unmarshal(truth, &places))
	places = places[len(places)-1:]
	places[0].Digest = digest.Digest(args[2])
	lie, err := json.Marshal(places)
	ts.Check(err)
	ts.Check(os.WriteFile(memory, lie, 0o644))
}

// dockertruth: undo every dockerlie of the script.
func dockerTruth(ts *testscript.TestScript, _ bool, _ []string) {
	for memory, truth := range ts.Value(memoriesKey{}).(map[string][]byte) {
		ts.Check(os.WriteFile(memory, truth, 0o644))
	}
}

// memoriesKey is under what a script keeps the memories of docker's that it
// changed.
type memoriesKey struct{}
