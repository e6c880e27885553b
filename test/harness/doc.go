// Package harness runs real Konsul processes for the black-box suites.
//
// It knows the program only through its command line, its environment and its
// HTTP interface; nothing of the program's own code is imported, so what these
// suites show is what a user of the binary gets. Every process is started with
// a parent-death signal and ended by t.Cleanup: a test run that is itself
// killed leaves nothing behind.
package harness
