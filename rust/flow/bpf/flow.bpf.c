// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The kernel path: segments of a session that was handed over go from one peer to the other here,
// with addresses, ports, sequence numbers, time stamps, SACK blocks and windows of the other leg.
//
// `ingress` is attached to every interface that carries a leg, `guard` to the same on egress; where
// an interface's frames have no Ethernet header, the same under names of their own.
// A segment that belongs to no flow goes its way (TC_ACT_UNSPEC: later programs run). One that
// belongs to a live flow and can't be rewritten is dropped and counted: the stack has no socket
// for it and would answer with a reset.
//
// IPv4. No loops without a bound, no signed division: Debian's clang 14 builds it.

#include "note.h"

// What our own socket may have said to a server that hasn't acknowledged it yet: a PROXY header.
#define UNDER_WAY 4096

// A server that goes on for longer than that before it is done greeting takes the relay.
#define NEAR 65536

// What time it is for this peer. No segment turns a clock back, on whatever CPU it comes.
inline_ void hear_time(struct gate *gate, struct flow *flow, __u32 from, __u32 tsval)
{
	__u32 heard = *(volatile __u32 *)&gate->tsval[from];

	// Mostly it says the same again: clocks tick once a millisecond.
	if (!tsval || (heard && !after(tsval, heard)))
		return;
	lock(&flow->lock);
	if (!gate->tsval[from] || after(tsval, gate->tsval[from]))
		gate->tsval[from] = tsval;
	unlock(&flow->lock);
}

// What time it is for this peer, and what its SYN says.
inline_ void hear_options(struct __sk_buff *skb, struct gate *gate, struct flow *flow, __u32 from,
			  struct segment *segment, struct tcp *tcp)
{
	__u32 length = segment->options;
	struct options options = {};
	struct found found = {};

	if (!length || length > MOST_OPTIONS ||
	    load_bytes(skb, segment->tcp + FIXED, &options, length))
		return;
	find_options(&options, length, &found);
	if (from == SERVER && (tcp->flags & SYN))
		gate->mss = (gate->mss & ~0xffff) | read_at(&options, found.at[OPTION_MSS]) >> 16;
	hear_time(gate, flow, from, read_at(&options, found.at[OPTION_TIMESTAMPS]));
}

// Before the hand-over: where this peer is, and what time it is for it. Whoever sends in its name
// has to guess where it is, and what we have said to it. What comes late takes nothing back.
inline_ void hear(struct __sk_buff *skb, struct gate *gate, struct flow *flow, __u32 from,
		  struct segment *segment, struct tcp *tcp)
{
	__u32 seq = swap(tcp->seq), next, last;

	if (from == CLIENT && seq != gate->rcv_nxt[CLIENT])
		return;
	if (from == SERVER) {
		if (gate->snd_nxt[SERVER] - swap(tcp->ack) > UNDER_WAY)
			return;
		next = gate->rcv_nxt[SERVER];
		last = seq + segment->payload + !!(tcp->flags & (SYN | FIN));
		// Only the first SYN says where it begins; user space asks its socket as well.
		if (tcp->flags & SYN ? !!next : !next || last - next + NEAR > 2 * NEAR)
			return;
		if ((tcp->flags & SYN) || after(last, next))
			gate->rcv_nxt[SERVER] = last;
		// Linux has DF in every SYN-ACK: the greeting tells.
		if (!segment->whole)
			gate->mss |= CUT;
	}
	hear_options(skb, gate, flow, from, segment, tcp);
}

// What almost every segment has: nothing, nothing, time stamps (RFC 7323, appendix A).
struct usual {
	__be32 begin, tsval, tsecr;
};

#define USUAL swap(0x0101080a)

// Translates options as they usually are, in place; 0 where they aren't.
inline_ int rewrite_usual(struct __sk_buff *skb, struct translation *side, struct segment *segment,
			  __u64 *changed, __u32 *tsval)
{
	struct tcp *tcp = tcp_header(skb, segment->tcp);
	struct usual *usual, old;

	if (!tcp || segment->options != sizeof(*usual))
		return 0;
	usual = (void *)(tcp + 1);
	if ((void *)(usual + 1) > (void *)(long)skb->data_end || usual->begin != USUAL)
		return 0;
	old = *usual;
	*tsval = swap(old.tsval);
	usual->tsval = swap(*tsval + side->tsval_add);
	usual->tsecr = swap(swap(old.tsecr) + side->tsecr_add);
	*changed += change(old.tsval, usual->tsval) + change(old.tsecr, usual->tsecr);
	return 1;
}

// Translates options of any kind; 0 where they can't be had.
inline_ int rewrite_options(struct __sk_buff *skb, struct translation *side, struct segment *segment,
			    __u64 *changed, __u32 *tsval)
{
	struct options old = {}, new;
	__u32 length = segment->options, at = segment->tcp + FIXED;
	__s64 difference;

	// The verifier has to see that it is at least 1.
	if (!length)
		return 1;
	if (length > MOST_OPTIONS || load_bytes(skb, at, &old, length))
		return 0;
	new = old;
	*tsval = translate_options(side, &new, length);
	difference = csum_diff(&old, sizeof(old), &new, sizeof(new), 0);
	*changed += (__u32)difference;
	return !store_bytes(skb, at, &new, length, 0);
}

// Rewrites a segment and sends it to the other peer; `tsval` becomes its time stamp, as it was said.
inline_ int rewrite(struct __sk_buff *skb, __u32 out, struct translation *side,
		    struct segment *segment, struct tcp *old, __u32 *tsval)
{
	__u32 check = segment->tcp + __builtin_offsetof(struct tcp, checksum);
	__u64 addresses, changed = 0;
	struct tcp *tcp, new = *old;
	struct iphdr *ip;
	__be16 ttl[2];

	if (!rewrite_usual(skb, side, segment, &changed, tsval) &&
	    !rewrite_options(skb, side, segment, &changed, tsval))
		return count(DROPPED_HEADER, TC_ACT_SHOT);
	new.from_port = side->told.from_port;
	new.to_port = side->told.to_port;
	new.seq = swap(swap(old->seq) + side->seq_add);
	if (old->flags & ACK)
		new.ack = swap(swap(old->ack) + side->ack_add);
	// The window of a SYN is never scaled (RFC 7323, 2.2).
	if (!(old->flags & SYN))
		new.window = translate_window(side, old->window);
#pragma clang loop unroll(full)
	for (int word = 0; word < 4; word++)
		changed += change(((__u32 *)old)[word], ((__u32 *)&new)[word]);
	addresses = change(segment->key.from, side->told.from) +
		    change(segment->key.to, side->told.to);

	ip = ip_header(skb, segment->frame);
	if (!ip)
		return count(DROPPED_HEADER, TC_ACT_SHOT);
	ttl[0] = swap16((__u16)ip->ttl << 8);
	ttl[1] = swap16((__u16)IPDEFTTL << 8);
	ip->check = fold(fold_once(addresses + change(ttl[0], ttl[1]) + (__u16)~ip->check));
	ip->saddr = side->told.from;
	ip->daddr = side->told.to;
	ip->ttl = IPDEFTTL;
	tcp = tcp_header(skb, segment->tcp);
	if (!tcp)
		return count(DROPPED_HEADER, TC_ACT_SHOT);
	*tcp = new;
	// The kernel knows whether it is to be whole or for whoever sends it to complete.
	l4_csum_replace(skb, check, 0, fold_once(addresses), BPF_F_PSEUDO_HDR);
	l4_csum_replace(skb, check, 0, fold_once(changed), 0);

	skb->mark = MARK;
	count(REWRITTEN, 0);
	return send(skb, segment->frame, out);
}

// A payload-free segment of a client that hasn't acknowledged all of the greeting yet is for our
// socket, which still waits for that and sends it again. Whether it is one.
inline_ int is_about_greeting(struct gate *gate, struct flow *flow, struct segment *segment,
			      struct tcp *tcp)
{
	__u32 ack = swap(tcp->ack);

	if (tcp->flags & RST) {
		gate->greeting = 0;
		return 0;
	}
	if (!after(flow->greeting_end, ack))
		gate->greeting = 0;
	return !segment->payload && !(tcp->flags & (FIN | SYN)) && !after(ack, flow->greeting_end);
}

// What comes late of a flow that is over is rewritten still, by what is left of it: 0 where that
// is nothing, or where its client has come back from the same port.
inline_ struct late *find_late(struct place *place, struct segment *segment, struct tcp *tcp)
{
	if (place->flow == LINGERS && place->side == CLIENT && (tcp->flags & (SYN | ACK)) == SYN)
		place->flow = FORGOTTEN;
	return place->flow == LINGERS ? map_lookup(&lingering, &segment->key) : 0;
}

// A SYN that goes up to the stack.
#define OFFERED 1000

inline_ int to_stack(struct tcp *tcp)
{
	return offers(tcp) ? OFFERED : TC_ACT_UNSPEC;
}

// What becomes of a segment. A function of its own: the stack holds this or what blanks offers.
static __attribute__((noinline)) int carry(struct __sk_buff *skb, __u32 frame)
{
	struct segment segment;
	struct place *place;
	struct late *late;
	struct gate *gate;
	struct flow *flow;
	struct tcp tcp;
	__u32 from, state, before, tsval = 0;
	__u64 now = 0;
	int said, verdict;

	// Not for this interface: for one that stands on it, which has its turn, or for nobody here.
	if (skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	if (!parse(skb, frame, &segment, &tcp))
		return too_big(skb, frame);
	place = map_lookup(&places, &segment.key);
	if (!place)
		return to_stack(&tcp);
	if (place->flow >= FORGOTTEN) {
		late = find_late(place, &segment, &tcp);
		if (!late)
			return count(TO_STACK, to_stack(&tcp));
		if (segment.fragmented)
			return count(DROPPED_FRAGMENT, TC_ACT_SHOT);
		return rewrite(skb, late->out, &late->told_as, &segment, &tcp, &tsval);
	}
	gate = map_lookup(&gates, &place->flow);
	flow = map_lookup(&flows, &place->flow);
	if (!gate || !flow)
		return TC_ACT_UNSPEC;
	from = place->side & 1;

	// Before the state is read: whoever flips it sees every byte that went by before. Fetched,
	// since only then is it in order with what follows on every machine.
	before = __sync_fetch_and_add(&gate->counted[from],
				      segment.payload + !!(tcp.flags & (FIN | RST)));
	asm volatile("" : : "r"(before));
	state = *(volatile __u32 *)&gate->state;
	if (state == SETUP)
		hear(skb, gate, flow, from, &segment, &tcp);
	if (state == SETUP || state == PASSED)
		return count(TO_STACK, to_stack(&tcp));
	if (state == HOLD)
		return count(HELD, TC_ACT_SHOT);
	if (state == CLOSING && from == CLIENT && (tcp.flags & (SYN | ACK)) == SYN) {
		// A new connection from the same port; the stack decides.
		gate->state = PASSED;
		mark_at_once(place->flow);
		return count(TO_STACK, to_stack(&tcp));
	}
	if (segment.fragmented)
		return count(DROPPED_FRAGMENT, TC_ACT_SHOT);
	// When what was said is heard.
	if (swap(tcp.ack) + flow->sides[from].told_as.ack_add != flow->sides[!from].snd_una)
		now = now_ns();
	said = note(gate, flow, from, &segment, &tcp, now, words_of(skb, from, &segment));
	if (said & LAST) {
		gate->state = CLOSING;
		mark_at_once(place->flow);
	} else if (said & FITS) {
		mark(place->flow);
	}
	if (gate->greeting && from == CLIENT && (said & FITS)) {
		int is_ours = is_about_greeting(gate, flow, &segment, &tcp);

		if (!gate->greeting)
			mark_at_once(place->flow);
		if (is_ours)
			return count(TO_STACK, TC_ACT_UNSPEC);
	}
	verdict = rewrite(skb, gate->out[!from], &flow->sides[from].told_as, &segment, &tcp, &tsval);
	// Whoever speaks in its name says no earlier one: our socket until the client has acknowledged
	// the greeting, and keepalives from then on.
	if (said & FITS)
		hear_time(gate, flow, from, tsval);
	return verdict;
}

// A driver may leave all of a frame but its Ethernet header in pages, where it isn't seen: a large
// segment would be nobody's then, in a session whose short ones are rewritten. Both headers are 40
// bytes at least, and 120 at most.
inline_ void have_headers(struct __sk_buff *skb, __u32 frame)
{
	__u32 most = frame + 120;

	if ((void *)(long)skb->data + frame + 40 > (void *)(long)skb->data_end)
		pull_data(skb, most < skb->len ? most : skb->len);
}

inline_ int come_in(struct __sk_buff *skb, __u32 frame)
{
	int verdict;

	have_headers(skb, frame);
	verdict = carry(skb, frame);
	return verdict == OFFERED ? let_in(skb, frame) : verdict;
}

SEC("classifier/ingress")
int ingress(struct __sk_buff *skb)
{
	return come_in(skb, ETHERNET);
}

SEC("classifier/ingress_bare")
int ingress_bare(struct __sk_buff *skb)
{
	return come_in(skb, BARE);
}

// From the hand-over on our socket says the time of the server's newest segment, as the client is
// told it. By its own clock a greeting that is sent again would make all that is rewritten look
// old; by a clock that stands still it would look old itself, behind a segment that the server has
// sent again meanwhile (PAWS, RFC 7323, 5). Our own stack begins its options as it usually does.
// To the client alone: on the server's leg our socket has another clock, and a late
// acknowledgement by the client's would make all that follows look old.
inline_ int tell_time(struct __sk_buff *skb, struct gate *gate, struct flow *flow,
		      struct segment *segment)
{
	__u32 at = segment->tcp + FIXED;
	struct usual usual;
	__be32 now;

	if (segment->options < sizeof(usual) || load_bytes(skb, at, &usual, sizeof(usual)) ||
	    usual.begin != USUAL)
		return TC_ACT_UNSPEC;
	now = swap(gate->tsval[SERVER] + flow->sides[SERVER].told_as.tsval_add);
	l4_csum_replace(skb, segment->tcp + __builtin_offsetof(struct tcp, checksum), usual.tsval,
			now, 4);
	store_bytes(skb, at + __builtin_offsetof(struct usual, tsval), &now, 4, 0);
	return TC_ACT_UNSPEC;
}

// Notes where our own segments to a peer are, and by which interface they leave: the first that one
// passes, since links stand on each other. A leg of which none is seen isn't handed over. Anybody
// here can have the stack say a SYN with these addresses, by the interface that he likes
// (SO_BINDTODEVICE, connect(2)), and no more than that: so of those to the server the first counts,
// no other SYN, and nothing that ends.
inline_ void follow(struct gate *gate, __u32 to, __u32 ifindex, struct segment *segment,
		    struct tcp *tcp)
{
	__u32 sent = swap(tcp->seq) + segment->payload + !!(tcp->flags & SYN);
	__u32 is_first = !gate->out[to];

	if (tcp->flags & (FIN | RST) || ((tcp->flags & SYN) && (to == CLIENT || !is_first)))
		return;
	if (is_first)
		gate->out[to] = ifindex;
	if (gate->state == SETUP && (is_first || after(sent, gate->snd_nxt[to])))
		gate->snd_nxt[to] = sent;
}

// What our own stack says on a connection that it has given up: nothing that ends it. Of what
// goes out it is seen where it goes.
inline_ int go_out(struct __sk_buff *skb, __u32 frame)
{
	struct segment segment;
	struct key key;
	struct place *place;
	struct gate *gate;
	struct flow *flow;
	struct tcp tcp;
	__u32 to;
	int lives;

	if (skb->mark == MARK || !parse(skb, frame, &segment, &tcp))
		return TC_ACT_UNSPEC;
	key.from = segment.key.to;
	key.to = segment.key.from;
	key.from_port = segment.key.to_port;
	key.to_port = segment.key.from_port;
	place = map_lookup(&places, &key);
	if (!place)
		return TC_ACT_UNSPEC;
	if (place->flow == LINGERS && (tcp.flags & (FIN | RST | SYN)))
		return count(GUARDED, TC_ACT_SHOT);
	gate = map_lookup(&gates, &place->flow);
	flow = map_lookup(&flows, &place->flow);
	if (!gate || !flow)
		return TC_ACT_UNSPEC;
	lives = gate->state == LIVE || gate->state == CLOSING;
	if (lives && (tcp.flags & (FIN | RST | SYN)))
		return count(GUARDED, TC_ACT_SHOT);
	to = place->side & 1;
	follow(gate, to, skb->ifindex, &segment, &tcp);
	if (gate->state == SETUP && to == SERVER && offers(&tcp))
		return blank_offers(skb, frame, gate->mss);
	return lives && to == CLIENT ? tell_time(skb, gate, flow, &segment) : TC_ACT_UNSPEC;
}

SEC("classifier/guard")
int guard(struct __sk_buff *skb)
{
	return go_out(skb, ETHERNET);
}

SEC("classifier/guard_bare")
int guard_bare(struct __sk_buff *skb)
{
	return go_out(skb, BARE);
}

char licence[] SEC("license") = "Dual MIT/GPL";
