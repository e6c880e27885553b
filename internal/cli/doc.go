// Package cli is the konsul program's client side: every command but `konsul agent`.
//
// The commands talk HTTP only, through package client, and print for people, or JSON
// with --json. What a command prints goes to its cobra output; main prints the error
// that comes back, once, and exits with ExitCode of it:
//
//	0  done
//	1  failed
//	2  wrong usage: unknown command or flag, missing argument, bad value
//	3  the key (or node, service, session, check) asked for is not there
//
// konsul lock passes the exit status of the command on that it runs, and has three more
// of its own: 125 the lock was lost, 126 the command cannot be run, 127 there is none.
package cli
