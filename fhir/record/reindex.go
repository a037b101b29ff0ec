package record

// Reindexing is how far the index of stored resources is computed anew.
type Reindexing struct {
	State   string // one of the states below
	Percent int    // of the resource types that it is for; nothing about how many resources there are
}

// The states, which are codes of http://hl7.org/fhir/task-status.
const (
	ReindexRequested  = "requested"
	ReindexInProgress = "in-progress"
	ReindexCompleted  = "completed"
)
