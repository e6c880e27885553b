package checks

import "github.com/neogan74/konsul/fsm/command"

// streak counts the latest results in a row, of three sorts.
type streak struct {
	passing  uint32
	serving  uint32 // passing or warning
	critical uint32
}

func (s *streak) add(got command.Check_Status) {
	if got == command.Check_CRITICAL {
		*s = streak{critical: s.critical + 1}
		return
	}
	s.critical = 0
	s.serving++
	if got == command.Check_PASSING {
		s.passing++
	} else {
		s.passing = 0
	}
}

// flips says whether a check in status have shall become got now. To critical it
// takes criticalAfter results in a row, to passing passingAfter; a warning is told at
// once, but a critical instance serves again only after passingAfter results that are
// not critical.
func (s *streak) flips(have, got command.Check_Status, passingAfter, criticalAfter uint32) bool {
	if have == got {
		return false
	}
	passingAfter, criticalAfter = max(passingAfter, 1), max(criticalAfter, 1)
	switch got {
	case command.Check_CRITICAL:
		return s.critical >= criticalAfter
	case command.Check_PASSING:
		return s.passing >= passingAfter
	}
	return have != command.Check_CRITICAL || s.serving >= passingAfter
}
