//go:build !failpoints

// Package failpoint names the places where a test may break the program on
// purpose: end the process, wait, or switch a step off. In an ordinary build
// every call is an empty function; `-tags failpoints` compiles them in and the
// environment variable KONSUL_FAILPOINTS says what happens, for example
// "persist.after-stream=kill;engine.skip-fsync=on;apply.before-commit=sleep(50ms)".
package failpoint

// Hit is called between two steps.
func Hit(string) {}

// On says whether a step is to be switched off.
func On(string) bool { return false }
