package config

import (
	"regexp"
	"strings"
)

// otherEnv are variables with our prefix that are not options of a node: the client's, the
// configuration file's own, the fault tests', and what `konsul lock` gives to its command.
var otherEnv = map[string]bool{
	"KONSUL_CONFIG":       true,
	"KONSUL_HTTP_ADDR":    true,
	"KONSUL_TOKEN":        true,
	"KONSUL_FAILPOINTS":   true,
	"KONSUL_LOCK_KEY":     true,
	"KONSUL_LOCK_INDEX":   true,
	"KONSUL_LOCK_SESSION": true,
}

// kubernetesEnv are the variables Kubernetes sets in every container next to a Service named konsul.
var kubernetesEnv = regexp.MustCompile(`^KONSUL_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_PROTO|_PORT|_ADDR)?)$`)

// envLayer takes the options out of the environment. A variable set to nothing counts as not set,
// because that is what templates leave behind (`KONSUL_JOIN=${JOIN:-}`). A KONSUL_ variable that is
// no option is a problem; a BADGER_ one only if it is a near miss, for that prefix is not ours alone.
func envLayer(environ []string, problems *problems) layer {
	l := newLayer()
	known := map[string]Option{}
	var names []string
	for _, o := range Options() {
		known[o.Env] = o
		names = append(names, o.Env)
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		source := "environment " + name
		o, isOption := known[name]
		switch {
		case isOption && value == "":
		case name == "KONSUL_PORT" && strings.HasPrefix(value, "tcp://"):
			problems.add(source, o.Key, "%q was set by Kubernetes for a Service named konsul: set enableServiceLinks: false in the pod", value)
		case isOption:
			l.values[o.Key], l.names[o.Key] = value, source
		case strings.HasPrefix(name, "KONSUL_") && !otherEnv[name] && !strings.HasPrefix(name, "KONSUL_TEST_") && !kubernetesEnv.MatchString(name):
			problems.add(source, name, "unknown variable%s", didYouMean(name, names))
		case strings.HasPrefix(name, "BADGER_"):
			if hint := didYouMean(name, names); hint != "" {
				problems.add(source, name, "unknown variable%s", hint)
			}
		}
	}
	return l
}

// lookup finds one variable in an environment.
func lookup(environ []string, name string) string {
	for _, pair := range environ {
		if k, v, _ := strings.Cut(pair, "="); k == name {
			return v
		}
	}
	return ""
}
