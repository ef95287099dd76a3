// Package alarm says of which entries of the log somebody has to know at once.
//
// Rules are pure: entries go in, alarms come out, time is that of the entries. Raiser
// runs them where entries are appended and adds their alarms to the same append, so
// that a cause and its alarm are durable together: no crash comes between them, and no
// restart doubles one. What must outlast a restart (which policies there are, a burst
// that goes on, who has used an offline issuer) are cursors of the same append.
//
// The id of an alarm is made of its cause alone. Replicas that see the same cause
// raise the same id, and who delivers an alarm again does so under the same id.
//
// Delivery is by package audit/sink. Told keeps count of what was raised and not
// delivered, and of the sinks that work. See docs/alarms.md.
package alarm
