// The judge: are the appends and reads of logs linearizable?
//
// It reads from stdin {"within": seconds, "logs": {name: [operation...]}} and writes {name: verdict} to stdout; a
// verdict is "linearizable", "illegal" or "unknown" (time was up). Times are ns; a return of -1 is never.
//
// An operation is either an append of an id or the observation that the entry at a position (1, 2, ...) has an id. The
// model is one log: an append puts its id at the end, once; an observation needs the log to be that long and to have
// that id there. So that the search does not try every order of the appends that were under way together, an append
// whose position was observed is legal only there, and one that nobody observed only at a position that nobody
// observed. That loses nothing: any order that explains the observations puts each id where it was observed.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	Kind     string `json:"kind"` // "append" or "read"
	ID       string `json:"id"`
	Position int    `json:"position"` // of a read
	Call     int64  `json:"call"`
	Return   int64  `json:"return"`
}

type task struct {
	Within float64                `json:"within"`
	Logs   map[string][]operation `json:"logs"`
}

// input is an operation with what was observed of its log.
type input struct {
	operation
	observed int            // where the id was observed; 0: nowhere
	claimed  map[int]string // the id that was observed first at each position
}

// The state is the length of the log: which id lies at an observed position is fixed by `claimed`.
var model = porcupine.Model{
	Init: func() interface{} { return 0 },
	Step: func(state, in, _ interface{}) (bool, interface{}) {
		length, op := state.(int), in.(input)
		if op.Kind == "read" {
			return op.Position <= length && op.claimed[op.Position] == op.ID, length
		}
		if op.observed != 0 {
			if op.observed <= length { // the same id again: the log has it
				return true, length
			}
			return op.observed == length+1, length + 1
		}
		if _, taken := op.claimed[length+1]; taken {
			return false, length
		}
		return true, length + 1
	},
}

func judge(operations []operation, within time.Duration) string {
	claimed, observed := map[int]string{}, map[string]int{}
	for _, op := range operations {
		if op.Kind != "read" {
			continue
		}
		if _, taken := claimed[op.Position]; !taken {
			claimed[op.Position] = op.ID
		}
		if at, known := observed[op.ID]; known && at != op.Position {
			return "illegal" // one id at two positions
		}
		observed[op.ID] = op.Position
	}
	history := make([]porcupine.Operation, 0, len(operations))
	for number, op := range operations {
		end := op.Return
		if end < 0 {
			end = math.MaxInt64
		}
		history = append(history, porcupine.Operation{
			ClientId: number,
			Input:    input{op, observed[op.ID], claimed},
			Call:     op.Call,
			Return:   end,
		})
	}
	switch porcupine.CheckOperationsTimeout(model, history, within) {
	case porcupine.Ok:
		return "linearizable"
	case porcupine.Illegal:
		return "illegal"
	default:
		return "unknown"
	}
}

func main() {
	var asked task
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(2)
	}
	verdicts := make(map[string]string, len(asked.Logs))
	for name, operations := range asked.Logs {
		verdicts[name] = judge(operations, time.Duration(asked.Within*float64(time.Second)))
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(2)
	}
}
