package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// Execute runs a prepared root command with these arguments, writes its error to the
// root's standard error and returns the exit status.
func Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		return exit.Code
	}
	err = unknownCommand(root, err)
	report(root.ErrOrStderr(), err, wantsJSON(args))
	return ExitCode(err)
}

// wantsJSON looks at the arguments themselves: they may be what is wrong.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// report writes an error for people, or as one line of JSON in the form of the HTTP API.
func report(w io.Writer, err error, asJSON bool) {
	if asJSON {
		// Nowhere to report that standard error cannot be written.
		_ = printJSON(w, struct {
			Error string `json:"error"`
			Code  string `json:"code"`
		}{err.Error(), errorCode(err)})
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "konsul:", line)
	}
}

// errorCode is the API's code, or one for what never came to a request.
func errorCode(err error) string {
	var answer *client.Error
	switch {
	case errors.As(err, &answer) && answer.Code != "":
		return answer.Code
	case ExitCode(err) == exitUsage:
		return "usage"
	}
	return "failed"
}
