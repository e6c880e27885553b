package config

import (
	"github.com/spf13/pflag"
)

// Flags are the options given on a command line, as text; [Load] parses and checks them together
// with everything else, so that one run reports all that is wrong.
type Flags struct {
	given []givenFlag
}

type givenFlag struct {
	option Option
	name   string // as spelt, alias or not
	text   string
}

// Register defines a flag for every option, and its alias, on fs. The values are in the returned
// Flags once fs has been parsed.
func Register(fs *pflag.FlagSet) *Flags {
	flags := &Flags{}
	defaults := Default()
	for _, o := range Options() {
		usage := o.Doc
		if o.Later != "" {
			usage += " (not supported yet)"
		}
		usage += " [" + o.Env + "]"
		shown := format(o.Get(&defaults))
		flags.define(fs, o, o.Flag, usage, shown)
		if o.Alias != "" {
			flags.define(fs, o, o.Alias, usage+", short for --"+o.Flag, shown)
		}
	}
	return flags
}

func (f *Flags) define(fs *pflag.FlagSet, o Option, name, usage, shown string) {
	flag := fs.VarPF(&flagValue{flags: f, option: o, name: name, shown: shown}, name, "", usage)
	if o.Kind == KindBool {
		flag.NoOptDefVal = "true" // --leave-on-terminate alone switches on
	}
}

// layer is what the command line says. Lists may be given several times and add up; anything else
// given twice is a problem, because one of the two was meant and the node cannot know which.
func (f *Flags) layer(problems *problems) layer {
	l := newLayer()
	if f == nil {
		return l
	}
	for _, g := range f.given {
		key, source := g.option.Key, "flag --"+g.name
		before, twice := l.values[key]
		if twice && g.option.Kind == KindList {
			l.values[key] = before.(string) + "," + g.text
			continue
		}
		if twice {
			problems.add(source, key, "given twice (also as %s)", l.names[key])
			continue
		}
		l.values[key], l.names[key] = g.text, source
	}
	return l
}

// flagValue records what it is set to.
type flagValue struct {
	flags  *Flags
	option Option
	name   string
	shown  string // default in the help
}

// String is the default, for the help.
func (v *flagValue) String() string { return v.shown }

// Type names the kind of value, for the help.
func (v *flagValue) Type() string { return string(v.option.Kind) }

// Set records the text; it is checked in Load.
func (v *flagValue) Set(text string) error {
	v.flags.given = append(v.flags.given, givenFlag{option: v.option, name: v.name, text: text})
	return nil
}
