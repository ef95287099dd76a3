package report

import "time"

// Report is schema version 1. Times are RFC 3339 in UTC, durations and margins in
// milliseconds, sizes in bytes. Fields may be added, and never change their meaning.
type Report struct {
	V     int   `json:"v"` // 1
	Asked Asked `json:"asked"`
	// AsOf is the time of the newest entry that was read: nothing is known of what
	// came later.
	AsOf time.Time `json:"asOf"`
	// From and Until bound the time that the report is about.
	From        time.Time    `json:"from"`
	Until       time.Time    `json:"until"`
	Summary     Summary      `json:"summary"`
	Activations []Activation `json:"activations"`
	Identities  []Identity   `json:"identities"`
	Refused     []Refusal    `json:"refused"`
	Alarms      []Alarm      `json:"alarms"`
	// Events are what else happened in that time: gaps, changes of policies and
	// configuration, limited requests, steps of the clock, starts and stops.
	Events    []Event   `json:"events"`
	Reads     []Read    `json:"reads"`
	Redaction Redaction `json:"redaction"`
	Proof     Proof     `json:"proof"`
	// Notes are what a reader must know of this report.
	Notes []string `json:"notes"`
	// Requests are all of them, in the order of the log.
	Requests []Request `json:"requests"`
}

// Asked is what was asked for.
type Asked struct {
	Activations []string  `json:"activations,omitempty"` // namespace/name
	Incident    string    `json:"incident,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Until       time.Time `json:"until,omitzero"`
}

// The states of a Verdict.
const (
	Good      = "good"
	Attention = "attention"
	Bad       = "bad"
	Nothing   = "none" // there is nothing to judge
)

// Verdict is a judgement and a sentence that says why.
type Verdict struct {
	State string `json:"state"` // good, attention, bad, none
	Words string `json:"words"`
}

// Summary is what one has to know.
type Summary struct {
	Incidents   []string `json:"incidents"`
	Roles       []string `json:"roles"`
	RequestedBy []string `json:"requestedBy"`
	Reasons     []string `json:"reasons"`
	Routes      []string `json:"routes"`
	Drill       bool     `json:"drill"` // all of it
	// Identities that had a request let in.
	Identities int    `json:"identities"`
	Counts     Counts `json:"counts"`
	// Elsewhere is how many requests were refused meanwhile that name none of the
	// activations; they are in Counts.Refused too.
	Elsewhere uint64 `json:"elsewhere"`

	Deadline Verdict `json:"deadline"`
	Alarm    Verdict `json:"alarm"`
	Review   Verdict `json:"review"`
	Complete Verdict `json:"complete"`
	Log      Verdict `json:"log"`
}

// Counts of requests, by outcome. Requests is the sum of those that ended; a request
// that was retried by Envoy is one.
type Counts struct {
	Requests uint64 `json:"requests"`
	Passed   uint64 `json:"passed"`
	// Failed are those of Passed that had a status of 500 or more, or none.
	Failed  uint64 `json:"failed"`
	Refused uint64 `json:"refused"`
	Cut     uint64 `json:"cut"`
	// Unfinished have an intent or a beginning in the log, and no end.
	Unfinished uint64 `json:"unfinished"`
	BytesIn    uint64 `json:"bytesIn"`
	BytesOut   uint64 `json:"bytesOut"`
}

// Ref is an entry.
type Ref struct {
	Log string `json:"log,omitempty"` // when there are several
	Seq uint64 `json:"seq"`
}

// Activation is all that the log says of one.
type Activation struct {
	Namespace   string   `json:"namespace"`
	Name        string   `json:"name"`
	UID         string   `json:"uid,omitempty"`
	Role        string   `json:"role"`
	Incident    string   `json:"incident,omitempty"`
	Reason      string   `json:"reason"`
	Drill       bool     `json:"drill"`
	Origin      string   `json:"origin,omitempty"`
	RequestedBy string   `json:"requestedBy,omitempty"`
	Duration    string   `json:"duration,omitempty"` // as asked for
	Targets     []Target `json:"targets"`
	Scope       []Scope  `json:"scope"`

	Requested time.Time `json:"requested"`
	Opened    time.Time `json:"opened,omitzero"`
	Live      time.Time `json:"live,omitzero"`
	Deadline  time.Time `json:"deadline"`
	// Closed is when the door was to be closed: the end or the deadline, whichever was
	// first. Ended is when it was recorded: later, when nobody was there at the deadline
	// but Envoy.
	Closed  time.Time `json:"closed,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"endedBy,omitempty"`
	// Phase: Expired, Revoked, Refused; empty: it has not ended, as of the newest
	// entry.
	Phase   string `json:"phase,omitempty"`
	Message string `json:"message,omitempty"`

	Counts Counts `json:"counts"`
	Kept   Kept   `json:"kept"`
	Review Review `json:"review"`
	Facts  []Fact `json:"facts"`
}

// Key is namespace/name.
func (a *Activation) Key() string { return a.Namespace + "/" + a.Name }

// Target is a route that was asked for.
type Target struct {
	Route  string    `json:"route"` // kind namespace/name
	Rule   string    `json:"rule,omitempty"`
	Digest string    `json:"digest,omitempty"` // of its spec when it was opened
	Opened time.Time `json:"opened,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
	Why    string    `json:"why,omitempty"`
}

// Scope is what a policy let the role open when the activation was seen.
type Scope struct {
	Policy string `json:"policy"`
	Digest string `json:"digest"`
	Entry  Ref    `json:"entry"`
	// Hostnames and Namespaces: empty is any.
	Hostnames   []string `json:"hostnames"`
	Namespaces  []string `json:"namespaces"`
	Issuers     []string `json:"issuers"`
	MaxDuration string   `json:"maxDuration,omitempty"`
}

// Kept says whether the deadline held. Only requests that were let in count.
type Kept struct {
	Verdict
	// Deadline that is compared with: that of the activation, or a later one of
	// another that held the same route open for the same role.
	Deadline  time.Time `json:"deadline,omitzero"`
	LastBegan time.Time `json:"lastBegan,omitzero"`
	LastEnded time.Time `json:"lastEnded,omitzero"`
	Last      *Ref      `json:"last,omitempty"` // the entry of the one that ended last
	// MarginMs is from LastEnded to the deadline: negative when it ended later.
	MarginMs float64 `json:"marginMs"`
	// BegunAfter began at the deadline or later: always 0 if the door works.
	BegunAfter uint64 `json:"begunAfter"`
	// EndedLate ended more than the tolerance after it.
	EndedLate uint64 `json:"endedLate"`
	// ToleranceMs is what Envoy may take to cut a stream.
	ToleranceMs float64 `json:"toleranceMs"`
	// AfterEndMs is how long after a revocation the last one ended.
	AfterEndMs float64 `json:"afterEndMs,omitempty"`
}

// The states of a Review.
const (
	ReviewNone    = "None"    // it was never open, or still is
	ReviewPending = "Pending" // it ended, and nobody has reviewed it
	ReviewOverdue = "Overdue"
	ReviewDone    = "Reviewed"
)

// Review of an activation.
type Review struct {
	State     string    `json:"state"`
	Due       time.Time `json:"due,omitzero"`
	Verdict   string    `json:"verdict,omitempty"` // drill, justified, misuse
	By        string    `json:"by,omitempty"`
	At        time.Time `json:"at,omitzero"`
	Note      string    `json:"note,omitempty"`
	FollowUps []string  `json:"followUps,omitempty"`
	Source    string    `json:"source,omitempty"`
	Entries   []Ref     `json:"entries,omitempty"`
}

// Fact is one decision, once, however many controllers recorded it.
type Fact struct {
	Event   string    `json:"event"`
	Time    time.Time `json:"time"`
	Who     string    `json:"who,omitempty"`
	Words   string    `json:"words,omitempty"`
	Entries []Ref     `json:"entries"`
}

// Identity is who came, as an issuer vouched for it; empty: without a good token.
type Identity struct {
	Issuer  string    `json:"issuer,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Counts  Counts    `json:"counts"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Tokens  []Token   `json:"tokens"`
	Groups  []Group   `json:"groups"`
}

// Known reports whether a token said who it was.
func (i *Identity) Known() bool { return i.Subject != "" || i.Issuer != "" }

// Token is one token, and where from it was used.
type Token struct {
	JTI      string         `json:"jti,omitempty"`
	Requests uint64         `json:"requests"`
	First    time.Time      `json:"first"`
	Last     time.Time      `json:"last"`
	Clients  []ClientCounts `json:"clients"`
}

// ClientCounts is an address without its port.
type ClientCounts struct {
	Address  string `json:"address"`
	Requests uint64 `json:"requests"`
}

// Group are requests that were alike.
type Group struct {
	Route   string    `json:"route,omitempty"`
	Method  string    `json:"method,omitempty"`
	Host    string    `json:"host,omitempty"`
	Path    string    `json:"path,omitempty"`
	Status  uint32    `json:"status"`
	Outcome string    `json:"outcome"`
	Count   uint64    `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Refusal are requests that were refused for one reason from one client.
type Refusal struct {
	Reason  string `json:"reason"`
	Client  string `json:"client"`
	Gateway string `json:"gateway,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Elsewhere: it named none of the activations, and came while they were open.
	Elsewhere bool      `json:"elsewhere"`
	Count     uint64    `json:"count"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	// Examples of what was asked for, at most three.
	Examples []string `json:"examples"`
}

// Alarm is one cause, and who was told.
type Alarm struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Severity string            `json:"severity"`
	Time     time.Time         `json:"time"` // of the cause
	Summary  string            `json:"summary,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Of: it names one of the activations, or their incident.
	Of        bool       `json:"of"`
	Raised    []Ref      `json:"raised"`
	Delivered []Delivery `json:"delivered"`
}

// Delivery is when a sink had an alarm.
type Delivery struct {
	Sink      string    `json:"sink"`
	At        time.Time `json:"at"`
	LatencyMs float64   `json:"latencyMs"` // since the cause
	Entry     Ref       `json:"entry"`
}

// Event is something else that happened in that time.
type Event struct {
	Kind  string    `json:"kind"`
	Time  time.Time `json:"time"`
	Until time.Time `json:"until,omitzero"`
	// State: attention or bad when it takes something from what the log can say.
	State string `json:"state"`
	Words string `json:"words"`
	Who   string `json:"who,omitempty"`
	// Lost requests, of a gap; Count of those without an entry each, of a limited.
	Lost  uint64 `json:"lost,omitempty"`
	Count uint64 `json:"count,omitempty"`
	Entry Ref    `json:"entry"`
}

// Read is somebody reading the log.
type Read struct {
	Time    time.Time `json:"time"`
	By      string    `json:"by"`
	Groups  []string  `json:"groups,omitempty"`
	What    string    `json:"what"`
	Address string    `json:"address,omitempty"`
	Refused string    `json:"refused,omitempty"`
	Entry   Ref       `json:"entry"`
}

// The outcomes of a Request.
const (
	Passed     = "passed"
	Refused    = "refused"
	Cut        = "cut"
	Unfinished = "unfinished"
)

// Request is one request.
type Request struct {
	Ref
	Key         string    `json:"key"`
	Outcome     string    `json:"outcome"` // passed, refused, cut, unfinished
	Start       time.Time `json:"start"`
	DurationMs  float64   `json:"durationMs"`
	Gateway     string    `json:"gateway,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	JTI         string    `json:"jti,omitempty"`
	Client      string    `json:"client,omitempty"`
	Certificate string    `json:"certificate,omitempty"`
	Method      string    `json:"method,omitempty"`
	Host        string    `json:"host,omitempty"`
	Path        string    `json:"path,omitempty"`
	Status      uint32    `json:"status"` // 0: the client left before one
	Denied      string    `json:"denied,omitempty"`
	Cut         string    `json:"cut,omitempty"`
	Flags       string    `json:"responseFlags,omitempty"`
	Route       string    `json:"route,omitempty"`
	Activations []string  `json:"activations,omitempty"`
	Backend     string    `json:"backend,omitempty"`
	Attempts    uint32    `json:"attempts,omitempty"`
	BytesIn     uint64    `json:"bytesIn"`
	BytesOut    uint64    `json:"bytesOut"`
	Via         string    `json:"via,omitempty"`
	// Elsewhere: as in a Refusal.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// End is when it ended, or was last heard of.
func (r *Request) End() time.Time {
	return r.Start.Add(time.Duration(r.DurationMs * float64(time.Millisecond)))
}

// Redaction says what the report does not show as the log has it.
type Redaction struct {
	Policy string `json:"policy"` // none, standard, strict, or file
	// Fields by class: keep, pseudonym, network, remove.
	Fields map[string]string `json:"fields"`
	// Keyed: pseudonyms are the same in each report with the same key.
	Keyed bool   `json:"keyed"`
	Words string `json:"words"`
}
