// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the segments of a live flow say: how far each side is, who has ended, and that user space is to
// look at the flow.

#include "too_big.h"

// What `note` says of a segment.
#define FITS 1 // its receiver takes it
#define LAST 2 // it was the flow's last

// Whether a reset is one that its receiver takes, or would if it had heard what is on its way to
// it: one with the number that it waits for (RFC 5961, 3.2), as far as it has said so; or, since
// who resets goes by what he has said himself, the one behind all of that. Any other number in the
// window is answered with a challenge, and the answer to that has the right one.
inline_ int resets(struct side *side, __u32 seq)
{
	return seq == side->snd_una || seq == side->snd_nxt ||
	       ((side->ends & END_FIN) && seq == side->fin);
}

// Whether `ack` is about what the other one may have been heard of, up to the last that it said
// and back as far as it could ever send at once (RFC 5961, 5.2).
inline_ int is_heard(struct side *side, struct side *other, __u32 ack)
{
	int has_ended = (other->ends & END_FIN) && after(other->fin, other->snd_nxt);
	__u32 top = has_ended ? other->fin : other->snd_nxt;
	__u32 most = (__u32)side->max_window << (side->told_as.scale & 15);

	return !after(ack, top) && !after(other->snd_una - most, ack);
}

// `side` has heard the other one up to there: only that is what somebody has said.
inline_ void hear_out(struct gate *gate, __u32 from, struct side *other, __u32 ack, __u64 now)
{
	__u32 news = ack - other->snd_una;

	if (!after(ack, other->snd_una))
		return;
	other->snd_una = ack;
	if ((other->ends & END_FIN) && after(ack, other->fin)) {
		// What was taken for its end was none.
		news += !!(other->ends & END_FIN_ACKED);
		other->ends &= ~(END_FIN | END_FIN_ACKED | END_FIRST);
	} else if ((other->ends & END_FIN) && ack == other->fin) {
		other->ends |= END_FIN_ACKED;
		news -= 1;
	}
	other->bytes_acked += news;
	if (news && now > other->acked_ns) {
		other->acked_ns = now;
		gate->acked[!from] = now >> 20;
	}
}

struct words {
	__u64 bytes;
	__u32 room; // so many bits at its beginning are for what was said before
};

// Whether bytes begin like a record of TLS, of any type and version in use.
inline_ int is_record(__u64 bytes)
{
	__u8 kind = bytes, major = bytes >> 8, minor = bytes >> 16;

	return kind >= 0x14 && kind <= 0x17 && major == 3 && minor <= 4;
}

// What is kept of the payload. A server's replies and TLS are known by how they begin, a client's
// commands by how they end: QUIT may stand behind a whole mail.
inline_ struct words words_of(struct __sk_buff *skb, __u32 from, struct segment *segment)
{
	__u32 at = segment->tcp + FIXED + segment->options;
	__u64 more = segment->payload - 1;
	struct words words = {};

	if (!segment->payload)
		return words;
	if (more > 7)
		more = 7;
	// The verifier has to see that at least one is read.
	more &= 7;
	asm volatile("" : "+r"(more));
	load_bytes(skb, at, &words.bytes, more + 1);
	if (from != CLIENT || is_record(words.bytes))
		return words;
	load_bytes(skb, at + segment->payload - 1 - more, &words.bytes, more + 1);
	words.room = 8 * (7 - more);
	words.bytes <<= words.room;
	return words;
}

// Notes what a segment says. Only if its receiver would take it, by where it stands and by what it
// acknowledges: what a third party guesses moves nothing. Even that is no more than said until the
// receiver acknowledges it, since it may be forged after all, or its checksum wrong: what counts
// counts by that. Segments of a flow are looked at on several CPUs at once, and out of their order
// then: hence the lock, and nothing ever moves back.
inline_ int note(struct gate *gate, struct flow *flow, __u32 from, struct segment *segment,
		 struct tcp *tcp, __u64 now, struct words words)
{
	struct side *side = &flow->sides[from], *other = &flow->sides[!from];
	__u32 seq = swap(tcp->seq), ack = swap(tcp->ack) + side->told_as.ack_add;
	__u32 last = seq + segment->payload, end = last + !!(tcp->flags & FIN);
	__u32 edge = ack + ((__u32)swap16(tcp->window) << (side->told_as.scale & 15)), ends = 0;
	// Our stack has acknowledged the greeting; the client may have to hear it yet.
	__u32 least = from == SERVER && gate->greeting ? flow->greeting_seq : side->snd_una;
	int said = 0;

	lock(&flow->lock);
	if (tcp->flags & RST) {
		if (resets(side, seq)) {
			ends = END_RST;
			said = FITS;
		}
	} else if ((tcp->flags & (SYN | ACK)) == ACK && !after(least, end) &&
		   // One byte more asks for a window that is shut, or is an end. Some go on across
		   // the edge, and some take that (Linux before 6.17).
		   (!after(end, side->wnd_end + 1) || after(side->wnd_end, seq)) &&
		   is_heard(side, other, ack)) {
		said = FITS;
		if (segment->payload && after(last, side->snd_nxt)) {
			if (words.room && seq == side->snd_nxt)
				words.bytes |= side->words >> (64 - words.room);
			side->snd_nxt = last;
			side->words = words.bytes;
		}
		if (!(side->ends & END_FIN_ACKED)) {
			// What it says there or behind that takes an end back.
			if (segment->payload && (side->ends & END_FIN) && !after(side->fin, last))
				side->ends &= ~(END_FIN | END_FIRST);
			if (tcp->flags & FIN) {
				side->fin = end;
				ends = END_FIN;
			}
		}
		if (swap16(tcp->window) > side->max_window)
			side->max_window = swap16(tcp->window);
		if (after(edge, other->wnd_end))
			other->wnd_end = edge;
	}
	side->segs_in += said & FITS;
	if ((said & FITS) && (tcp->flags & ACK) && is_heard(side, other, ack))
		hear_out(gate, from, other, ack, now);
	if (ends && !side->ends && !other->ends)
		ends |= END_FIRST;
	side->ends |= ends;
	if (gate->state == LIVE &&
	    ((side->ends & END_RST) || (side->ends & other->ends & END_FIN_ACKED)))
		said |= LAST;
	unlock(&flow->lock);
	return said;
}

// The bit of a flow: its word, or 0.
inline_ __u32 *bit_of(__u32 number, __u32 *bit)
{
	__u32 at = number / 64;
	struct bits *bits = map_lookup(&moved, &at);

	*bit = 1u << (number & 31);
	return bits ? &bits->words[(number >> 5) & 1] : 0;
}

// Has user space look at a flow, which moved.
inline_ void mark(__u32 number)
{
	__u32 bit, *word = bit_of(number, &bit);

	// Mostly nobody has looked since the last segment.
	if (word && !(*(volatile __u32 *)word & bit))
		__sync_fetch_and_or(word, bit);
}

// Has it looked at also where a look is under way that may have missed what was just written:
// fetched, it is in order with that on every machine.
inline_ void mark_at_once(__u32 number)
{
	__u32 bit, before, *word = bit_of(number, &bit);

	if (!word)
		return;
	before = __sync_fetch_and_or(word, bit);
	asm volatile("" : : "r"(before));
}
