// Package trail makes an audit trail evidence: keys, digests of rows, links that chain them, and signed checkpoints.
//
// It does so in three steps, none of which a request waits for another one in.
//
// A row carries a mac when a server adds it, keyed with a secret that the database does not hold. Whoever has the
// database can add rows, but none that counts as a server's. A row also takes a number
// from a sequence, which says where it is put, and nothing else: transactions that come to nothing leave gaps.
//
// A sealer, one at a time, reads what was committed and chains it. It notes the last number that was handed out,
// then waits until the transactions have ended that hold the lock of a writer on the tables at that moment: whoever got
// a lower number had the lock before, so that nothing can be committed behind the point noted. No writer waits. Rows go
// into links by the month of their moment, so that a month can be dropped and the rest stays verifiable; a link
// holds the digest of each of its rows, and the hash of a link the hash of the one before it in that month.
//
// A checkpoint is a signed statement of how far each month's chain has come, and holds the hash of
// the checkpoint before it. Every statement about a link can be found again in the chain: a chain that is forged
// between two checkpoints agrees with only one of them. Checkpoints kept outside of the
// database tell when its end, or all of it, was replaced with an earlier state.
//
// Digests name the columns of a row and leave out those that are NULL, so that a column that is added
// later as nullable changes no digest of before.
package trail
