package main

import "runtime/debug"

// version is set by the linker (see the Makefile).
var version string

// programVersion is what the linker was told, or what the toolchain knows of a build without it
// (go install module@version, go build in a checkout).
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "dev"
}
