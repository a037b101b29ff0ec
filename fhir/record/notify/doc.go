// Package notify tells clients of changes: topic-based Subscriptions
// (Subscriptions R5 Backport, https://hl7.org/fhir/uv/subscriptions-backport/STU1.1).
//
// A Subscription is what its client asked for and who the client is; it is no
// permission. It is kept beside the record, sealed, and nobody but its client finds it.
//
// # From a write to an event
//
// The transaction that writes a resource writes into notify.pending which rows and versions it
// made, where its practice has a subscription. What is visible there has been committed. One
// process at a time moves it to notify.change, where it gets a position; so positions are given
// in the order in which changes are found to be committed, a transaction that commits late takes
// a later one, and whoever has read up to a position has missed nothing. The versions of one
// resource keep their order, because the second can be written only after the first was committed.
// Notes (schema notes) are never written down there.
//
// A subscription that is stored while others write could miss what they write. Therefore it
// begins with what is committed after every transaction has ended that ran when it was stored.
//
// # From an event to its number
//
// A worker takes a subscription for a turn, under a lease. In its turn it asks the client's
// standing, authorizes its principal anew, plans what may go out to it ([authz.Engine.Outbound])
// and reads the changed versions under that Restriction. What it does not find is no event: no
// number is spent on it, and it moves nothing that is seen outside. What it finds, and what the
// topic and the filters select, is numbered, at most max-count at a time, in one transaction
// with the position up to which it looked. How many changes are looked at for that does not
// depend on what is hidden: a batch ends when it is full, or where there is nothing more.
//
// # From a number to a delivery
//
// Each try to deliver reads the versions again, under what may go out at that moment, and
// [record.Gate.Release] lets them out: the record of the disclosure is durable before anything is
// sent, and what the law wants goes with it. What has been visible when it was numbered, and is
// not any more, keeps its number and loses all the rest: no focus, no moment, no content. It is
// then the same as an event whose resource was physically removed. So it is in $events. Nobody
// is told that something has been hidden; a delete is told to whoever may see the tombstone.
//
// A filter asks what the resource says when the change is looked at. A delete has nothing
// left to say: with a filter it is told to a subscriber who was told of that resource before.
//
// The batch is sent again until it is acknowledged, under the same webhook-id, and nothing
// overtakes it: at least once, in order. Whoever sends may be killed at any point; another one
// goes on when the lease ends. After so many failures the subscription is in error: what was
// not delivered is kept, $events gives it, and a Subscription that is set to requested goes on with it.
package notify
