// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The kernel path: segments of a session that was handed over go from one peer to the other here,
// with addresses, ports, sequence numbers, time stamps, SACK blocks and windows of the other leg.
//
// `ingress` is attached to every interface that carries a leg, `guard` to the same on egress.
// A segment that belongs to no flow goes its way (TC_ACT_UNSPEC: later programs run). One that
// belongs to a live flow and can't be rewritten is dropped and counted: the stack has no socket
// for it and would answer with a reset.
//
// IPv4. No loops without a bound, no signed division: Debian's clang 14 builds it.

#include "segments.h"

// Older than that is no news.
#define OLD 65536

// What `note` says of a segment.
#define FITS 1 // it is in the window
#define LAST 2 // it was the flow's last

// Notes what a segment says. Only for segments in the window: what a third party guesses moves
// nothing. Segments of a flow are looked at on several CPUs at once, and out of their order then:
// hence the lock, and nothing ever moves back.
inline_ int note(struct gate *gate, struct flow *flow, struct side *side, struct side *other,
		 struct segment *segment, struct tcp *tcp, __u64 now, __u64 head)
{
	__u32 seq = swap(tcp->seq), ack = swap(tcp->ack) + side->ack_add;
	__u32 last = seq + segment->payload, end = last + !!(tcp->flags & FIN);
	__u32 ends = 0;
	int said = 0;

	lock(&flow->lock);
	side->packets += 1;
	if (tcp->flags & RST) {
		if (seq == side->acked) {
			ends = END_RST;
			said = FITS;
		}
	} else if ((tcp->flags & ACK) && !after(end, side->edge) &&
		   !after(side->acked - OLD, seq)) {
		said = FITS;
		if (segment->payload && after(last, side->next)) {
			side->bytes += last - side->next;
			side->next = last;
			side->said_ns = now;
			__builtin_memcpy(side->head, &head, 8);
		}
		if (tcp->flags & FIN) {
			side->fin = end;
			ends = END_FIN;
		}
		// `ack` is in the other's numbers by now.
		if (!after(ack, other->next + 1) && !after(other->acked, ack)) {
			__u32 edge = ack + ((__u32)swap16(tcp->window) << (side->scale & 15));

			other->acked = ack;
			if (after(edge, other->edge))
				other->edge = edge;
			if ((other->ends & END_FIN) && ack == other->fin)
				other->ends |= END_FIN_ACKED;
		}
	}
	if (ends && !side->ends && !other->ends)
		ends |= END_FIRST;
	side->ends |= ends;
	if (gate->state == LIVE &&
	    ((side->ends & END_RST) || (side->ends & other->ends & END_FIN_ACKED)))
		said |= LAST;
	unlock(&flow->lock);
	return said;
}

// The first bytes of the payload.
inline_ __u64 head_of(struct __sk_buff *skb, struct segment *segment)
{
	__u64 more = segment->payload - 1, head = 0;

	if (!segment->payload)
		return 0;
	if (more > 7)
		more = 7;
	// The verifier has to see that at least one is read.
	more &= 7;
	asm volatile("" : "+r"(more));
	load_bytes(skb, segment->tcp + FIXED + segment->options, &head, more + 1);
	return head;
}

// What our own socket may have said to a server that hasn't acknowledged it yet: a PROXY header.
#define UNDER_WAY 4096

// Before the hand-over: where this peer is, and what time it is for it. Whoever sends in its name
// has to guess where it is, or what we have said to it.
inline_ void hear(struct __sk_buff *skb, struct gate *gate, __u32 from, struct segment *segment,
		  struct tcp *tcp)
{
	__u32 length = segment->options, tsval, last = swap(tcp->seq) + segment->payload;
	__u8 options[MOST_OPTIONS] = {};
	struct found found;
	__u64 at;

	if (from == CLIENT && swap(tcp->seq) != gate->next[CLIENT])
		return;
	if (from == SERVER) {
		if (gate->sent[SERVER] - swap(tcp->ack) > UNDER_WAY)
			return;
		gate->next[SERVER] = last + !!(tcp->flags & SYN) + !!(tcp->flags & FIN);
		// Linux has DF in every SYN-ACK: the greeting tells.
		if (!segment->whole)
			gate->takes |= CUT;
	}

	if (!length || length > MOST_OPTIONS ||
	    load_bytes(skb, segment->tcp + FIXED, options, length) ||
	    !find_options(options, length, &found))
		return;
	at = found.mss;
	asm volatile("" : "+r"(at));
	if (at <= MOST_OPTIONS - 2 && from == SERVER && (tcp->flags & SYN))
		gate->takes = (gate->takes & CUT) | options[at] << 8 | options[at + 1];
	at = found.timestamps;
	asm volatile("" : "+r"(at));
	if (at > MOST_OPTIONS - 8)
		return;
	__builtin_memcpy(&tsval, options + at, 4);
	gate->tsval[from] = swap(tsval);
}

// The sum of RFC 1071 that `csum_diff` gives, as headers have it.
inline_ __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// What almost every segment has: nothing, nothing, time stamps (RFC 7323, appendix A).
struct usual {
	__be32 begin, tsval, tsecr;
};

#define USUAL swap(0x0101080a)

// Translates options as they usually are, in place; 0 where they aren't.
inline_ int rewrite_usual(struct __sk_buff *skb, struct side *side, struct segment *segment,
			  __u64 *changed)
{
	struct tcp *tcp = tcp_header(skb, segment->tcp);
	struct usual *usual, old;

	if (!tcp || segment->options != sizeof(*usual))
		return 0;
	usual = (void *)(tcp + 1);
	if ((void *)(usual + 1) > (void *)(long)skb->data_end || usual->begin != USUAL)
		return 0;
	old = *usual;
	usual->tsval = swap(swap(old.tsval) + side->tsval_add);
	usual->tsecr = swap(swap(old.tsecr) + side->tsecr_add);
	*changed += change(old.tsval, usual->tsval) + change(old.tsecr, usual->tsecr);
	return 1;
}

// Translates options of any kind; 0 where they make no sense.
inline_ int rewrite_options(struct __sk_buff *skb, struct side *side, struct segment *segment,
			    __u64 *changed)
{
	__u8 old[MOST_OPTIONS] = {}, new[MOST_OPTIONS];
	__u32 length = segment->options, at = segment->tcp + FIXED;
	__s64 difference;

	// The verifier has to see that it is at least 1.
	if (!length)
		return 1;
	if (length > MOST_OPTIONS || load_bytes(skb, at, old, length))
		return 0;
	__builtin_memcpy(new, old, MOST_OPTIONS);
	if (!translate_options(side, new, length))
		return 0;
	difference = csum_diff(old, MOST_OPTIONS, new, MOST_OPTIONS, 0);
	*changed += (__u32)difference;
	return !store_bytes(skb, at, new, length, 0);
}

// Rewrites a segment and sends it to the other peer.
inline_ int rewrite(struct __sk_buff *skb, __u32 out, struct side *side, struct segment *segment,
		    struct tcp *old)
{
	__u32 check = segment->tcp + __builtin_offsetof(struct tcp, checksum);
	__u64 addresses, changed = 0;
	struct tcp *tcp, new = *old;
	struct iphdr *ip;
	__be16 ttl[2];

	if (!rewrite_usual(skb, side, segment, &changed) &&
	    !rewrite_options(skb, side, segment, &changed))
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

	ip = ip_header(skb);
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
	return redirect_neigh(out, 0, 0, 0);
}

// ICMP: a router on the way couldn't pass on a segment that was said to be ours, since it was too
// big (RFC 1191). Whoever said it is told, with its own numbers. Only about what was said and isn't
// acknowledged: who guesses the addresses doesn't know that.
inline_ int too_big(struct __sk_buff *skb)
{
	struct too_big old, new;
	__u32 number, other, at = ETH_HLEN + sizeof(struct iphdr);
	struct place *place;
	struct flow *flow;
	struct gate *gate;
	struct iphdr ip;
	struct key key;
	__s64 difference;

	if (skb->protocol != swap16(ETH_P_IP) || skb->vlan_present ||
	    load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 ||
	    ip.protocol != IPPROTO_ICMP || (ip.frag_off & swap16(0x3fff)) ||
	    load_bytes(skb, at, &old, sizeof(old)) || old.type != UNREACHABLE ||
	    old.code != FRAGMENTATION_NEEDED || old.ip.version != 4 || old.ip.ihl != 5 ||
	    old.ip.protocol != IPPROTO_TCP)
		return TC_ACT_UNSPEC;
	key.from = old.ip.daddr;
	key.to = old.ip.saddr;
	key.from_port = old.to_port;
	key.to_port = old.from_port;
	place = map_lookup(&places, &key);
	if (!place)
		return TC_ACT_UNSPEC;
	gate = map_lookup(&gates, &place->flow);
	flow = map_lookup(&flows, &place->flow);
	// The greeting is our own socket's.
	if (!gate || !flow || gate->state != LIVE || gate->greeting)
		return TC_ACT_UNSPEC;
	other = !(place->side & 1);
	number = swap(old.seq) - flow->sides[other].seq_add;
	if (after(flow->sides[other].acked, number) || !after(flow->sides[other].next, number))
		return count(DROPPED_TOO_BIG, TC_ACT_SHOT);

	new = old;
	key = flow->sides[place->side & 1].told;
	new.ip.saddr = key.to;
	new.ip.daddr = key.from;
	new.from_port = key.to_port;
	new.to_port = key.from_port;
	new.seq = swap(number);
	difference = csum_diff(&old.ip.saddr, 8, &new.ip.saddr, 8, (__u16)~old.ip.check);
	new.ip.check = fold(difference);
	difference = csum_diff(&old, sizeof(old), &new, sizeof(new), 0);
	store_bytes(skb, at, &new, sizeof(new), 0);
	l4_csum_replace(skb, at + __builtin_offsetof(struct too_big, checksum), 0, difference, 0);
	l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check), ip.daddr, key.to,
			4);
	store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, daddr), &key.to, 4, 0);
	skb->mark = MARK;
	count(TOO_BIG, 0);
	return redirect_neigh(gate->out[other], 0, 0, 0);
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

SEC("classifier/ingress")
int ingress(struct __sk_buff *skb)
{
	struct segment segment;
	struct place *place;
	struct gate *gate;
	struct flow *flow;
	struct tcp tcp;
	__u32 from, state;
	__u64 now = 0;
	int said;

	if (!parse(skb, &segment, &tcp))
		return too_big(skb);
	place = map_lookup(&places, &segment.key);
	if (!place)
		return TC_ACT_UNSPEC;
	gate = map_lookup(&gates, &place->flow);
	flow = map_lookup(&flows, &place->flow);
	if (!gate || !flow)
		return TC_ACT_UNSPEC;
	from = place->side & 1;

	// Before the state is read: whoever flips it sees every byte that went by before.
	__sync_fetch_and_add(&gate->counted[from], segment.payload + !!(tcp.flags & (FIN | RST)));
	state = *(volatile __u32 *)&gate->state;
	if (state == SETUP)
		hear(skb, gate, from, &segment, &tcp);
	if (state == SETUP || state == PASSED)
		return count(TO_STACK, TC_ACT_UNSPEC);
	if (state == HOLD)
		return count(HELD, TC_ACT_SHOT);
	if (state == CLOSING && (tcp.flags & (SYN | ACK)) == SYN) {
		// A new connection from the same port; the stack decides.
		gate->state = PASSED;
		return count(TO_STACK, TC_ACT_UNSPEC);
	}
	if (segment.fragmented)
		return count(DROPPED_FRAGMENT, TC_ACT_SHOT);
	// Acknowledgements are half of all segments, and nobody asks when they came.
	if (segment.payload || (tcp.flags & (FIN | RST)))
		now = now_ns();
	said = note(gate, flow, &flow->sides[from], &flow->sides[!from], &segment, &tcp, now,
		    head_of(skb, &segment));
	if ((said & FITS) && segment.payload)
		gate->said[from] = flow->sides[from].said_ns >> 20;
	if (said & LAST)
		gate->state = CLOSING;
	if (gate->greeting && from == CLIENT && (said & FITS) &&
	    is_about_greeting(gate, flow, &segment, &tcp))
		return count(TO_STACK, TC_ACT_UNSPEC);
	return rewrite(skb, gate->out[!from], &flow->sides[from], &segment, &tcp);
}

// Our socket's clock stops at the hand-over: what is rewritten later goes by the server's, and
// would look older than a greeting that was sent again late (PAWS, RFC 7323, 5).
inline_ int stop_clock(struct __sk_buff *skb, struct flow *flow, struct segment *segment)
{
	__u8 options[MOST_OPTIONS] = {};
	__u32 length = segment->options, before, after;
	struct found found;
	__u64 at;

	if (!length || length > MOST_OPTIONS ||
	    load_bytes(skb, segment->tcp + FIXED, options, length) ||
	    !find_options(options, length, &found))
		return TC_ACT_UNSPEC;
	at = found.timestamps;
	asm volatile("" : "+r"(at));
	// At an odd place its bytes would count the other way round; no stack puts it there.
	if (at > MOST_OPTIONS - 8 || (at & 1))
		return TC_ACT_UNSPEC;
	__builtin_memcpy(&before, options + at, 4);
	after = swap(flow->our_tsval);
	l4_csum_replace(skb, segment->tcp + __builtin_offsetof(struct tcp, checksum), before, after,
			4);
	store_bytes(skb, segment->tcp + FIXED + at, &after, 4, 0);
	return TC_ACT_UNSPEC;
}

// What our own stack says on a connection that it has given up: nothing that ends it. By the way
// it is seen which interface leads to each peer.
SEC("classifier/guard")
int guard(struct __sk_buff *skb)
{
	struct segment segment;
	struct key key;
	struct place *place;
	struct gate *gate;
	struct flow *flow;
	struct tcp tcp;

	if (skb->mark == MARK || !parse(skb, &segment, &tcp))
		return TC_ACT_UNSPEC;
	key.from = segment.key.to;
	key.to = segment.key.from;
	key.from_port = segment.key.to_port;
	key.to_port = segment.key.from_port;
	place = map_lookup(&places, &key);
	if (!place)
		return TC_ACT_UNSPEC;
	gate = map_lookup(&gates, &place->flow);
	flow = map_lookup(&flows, &place->flow);
	if (!gate || !flow)
		return TC_ACT_UNSPEC;
	gate->out[place->side & 1] = skb->ifindex;
	if (gate->state == SETUP)
		gate->sent[place->side & 1] = swap(tcp.seq) + segment.payload +
					      !!(tcp.flags & SYN) + !!(tcp.flags & FIN);
	if (gate->state != LIVE && gate->state != CLOSING)
		return TC_ACT_UNSPEC;
	if (tcp.flags & (FIN | RST | SYN))
		return count(GUARDED, TC_ACT_SHOT);
	return stop_clock(skb, flow, &segment);
}

char licence[] SEC("license") = "Dual MIT/GPL";
