package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// ErrInvalid is wrapped by every error of [Load]: the node was told something it cannot do, and
// starting it again without a change cannot help.
var ErrInvalid = errors.New("configuration error")

// Input is where a configuration comes from.
type Input struct {
	File  string   // YAML file; empty for the one KONSUL_CONFIG names, or none
	Env   []string // as os.Environ
	Flags *Flags   // nil for none
}

// Result is a checked configuration and where each value came from.
type Result struct {
	Config
	sources map[string]string // option key -> "default", "file konsul.yaml", "environment KONSUL_PORT", "flag --port"
}

// layer is what one source says: raw values by option key, and how to name each in a message.
type layer struct {
	values map[string]any
	names  map[string]string
}

func newLayer() layer {
	return layer{values: map[string]any{}, names: map[string]string{}}
}

// Load merges the layers (flag over environment over file over default), parses every value and
// checks the whole. All that is wrong is reported at once, one line each, and wraps [ErrInvalid].
func Load(in Input) (*Result, error) {
	var problems problems
	layers := []layer{
		fileLayer(cmp.Or(in.File, lookup(in.Env, "KONSUL_CONFIG")), &problems),
		envLayer(in.Env, &problems),
		in.Flags.layer(&problems),
	}
	merged := koanf.New(".")
	r := &Result{Config: Default(), sources: map[string]string{}}
	for _, l := range layers {
		if err := merged.Load(confmap.Provider(l.values, "."), nil); err != nil {
			return nil, fmt.Errorf("merging the configuration: %w", err)
		}
		maps.Copy(r.sources, l.names)
	}
	for _, o := range Options() {
		r.set(o, merged, &problems)
	}
	r.settle()
	r.check(&problems)
	return r, problems.err()
}

// set parses one option's winning value into its field.
func (r *Result) set(o Option, merged *koanf.Koanf, problems *problems) {
	if r.sources[o.Key] == "" {
		r.sources[o.Key] = sourceDefault
		return
	}
	v, err := o.parse(merged.Get(o.Key))
	if err != nil {
		problems.add(r.sources[o.Key], o.Key, "%v", err)
		return
	}
	field := o.value(&r.Config)
	if o.Later != "" && !reflect.DeepEqual(v, field.Interface()) {
		problems.add(r.sources[o.Key], o.Key, "%s is not supported yet, so this node would not do what is asked; leave it out", o.Later)
		return
	}
	field.Set(reflect.ValueOf(v))
}

// sourceDefault is the source of what nobody set.
const sourceDefault = "default"

// settle fills in the defaults that depend on other options.
func (r *Result) settle() {
	unset := func(key string) bool { return r.sources[key] == sourceDefault }
	if need := r.Headroom(); r.Persistence.MinFreeSpace < need && unset("persistence.min_free_space") {
		r.Persistence.MinFreeSpace = need
		r.sources["persistence.min_free_space"] = "what the engine needs with this tuning, at least"
	}
	raft := &r.Raft
	if len(raft.Join) > 0 && unset("raft.bootstrap_expect") {
		raft.BootstrapExpect = 0
		r.sources["raft.bootstrap_expect"] = "default with join"
	}
	if raft.ElectionTimeout < raft.HeartbeatTimeout && unset("raft.election_timeout") {
		raft.ElectionTimeout = raft.HeartbeatTimeout
		r.sources["raft.election_timeout"] = "heartbeat_timeout, at least"
	}
	if raft.LeaderLeaseTimeout > raft.HeartbeatTimeout && unset("raft.leader_lease_timeout") {
		raft.LeaderLeaseTimeout = raft.HeartbeatTimeout
		r.sources["raft.leader_lease_timeout"] = "heartbeat_timeout, at most"
	}
}

// Source says where an option's value came from.
func (r *Result) Source(key string) string { return r.sources[key] }

// problems collects what is wrong with a configuration.
type problems struct {
	errs []error
	keys []string
}

// add notes a problem: where it was said, which key, what about it. Only the first about a key is
// kept: a value that could not be read leaves the default behind, and what the rules then say about
// that is noise.
func (p *problems) add(source, key, msg string, args ...any) {
	if slices.Contains(p.keys, key) {
		return
	}
	p.keys = append(p.keys, key)
	p.errs = append(p.errs, fmt.Errorf("%w: %s (%s): %s", ErrInvalid, key, source, fmt.Sprintf(msg, args...)))
}

func (p *problems) err() error { return errors.Join(p.errs...) }
