package ship

// Path is where the service takes logs.
const Path = "/v1/log"

const (
	// maxEntries and maxBytes bound a batch as it is sent: at least one entry, and no
	// more once its data has so many bytes.
	maxEntries = 2000
	maxBytes   = 2 << 20
	// maxBody bounds it as it is taken: one entry may have 1 MiB.
	maxBody = 8 << 20
	// maxName bounds an origin: a cursor's name has 512 bytes at most, and a Gateway's
	// and a pod's have 253.
	maxName = 480
	// maxKeys bounds the verifier keys that are sent, the first and the newest of a log,
	// and maxCheckpoint a checkpoint.
	maxKeys, maxCheckpoint = 20, 4 << 10
)

// head is the first line of a batch.
type head struct {
	Log     string `json:"log"`
	Key     string `json:"key"`
	Session string `json:"session"`
	// From is the seq of the first entry that follows, Size how many entries the log
	// has.
	From uint64 `json:"from"`
	Size uint64 `json:"size"`
	// End: nothing follows, and nobody will bring more for now.
	End bool `json:"end,omitempty"`
	// Hole: what is missing before From is not there any more.
	Hole bool `json:"hole,omitempty"`
	// Keys and the newest checkpoint of the log, now and then.
	Keys       []string `json:"keys,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
}

// answer to either request.
type answer struct {
	Service string `json:"service,omitempty"`
	Next    uint64 `json:"next"`
	Known   bool   `json:"known,omitempty"`
	// Last is the newest entry that the service has, SEQ@TIME of its own log.
	Last  string `json:"last,omitempty"`
	Error string `json:"error,omitempty"`
}
