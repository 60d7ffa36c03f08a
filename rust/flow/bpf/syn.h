// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What SYNs offer: no more than both legs of a session can have. A client's SYN is changed before
// our stack sees it, our own to a server where it leaves; neither side's answer ever is. An offer
// that is taken back is one that wasn't made (RFC 7323, 3.2; RFC 2018, 2; RFC 3168, 6.1.1).

#include "segments.h"

inline_ int offers(struct tcp *tcp)
{
	return (tcp->flags & (SYN | ACK)) == SYN;
}

// Overwrites an option of that size whose value is there; 0 where there is none.
inline_ int blank(struct options *options, __u64 at, const __u32 size)
{
	asm volatile("" : "+r"(at));
	if (at < 2 || at > MOST_OPTIONS + 2 - size)
		return 0;
	__builtin_memset(options->bytes + at - 2, OPTION_NOTHING, size);
	return 1;
}

// Time stamps fit into a SYN so often.
#define MOST_ALIKE 4

// Takes options off a SYN, and ECN always: the numbers that its segments carry can't be told.
// SYNs are few: a function of its own, which the verifier looks at once.
__attribute__((noinline)) int blank_offers(struct __sk_buff *skb, __u32 frame, __u32 without)
{
	struct options old = {}, new;
	struct segment segment;
	struct tcp tcp, told;
	__u32 length, at;
	__u64 changed;
	int any;

	if (!parse(skb, frame, &segment, &tcp))
		return TC_ACT_UNSPEC;
	told = tcp;
	told.offset &= ~AE;
	told.flags &= ~(ECE | CWR);
	any = told.offset != tcp.offset || told.flags != tcp.flags;
	changed = change(((__u32 *)&tcp)[3], ((__u32 *)&told)[3]);
	length = segment.options;
	at = segment.tcp + FIXED;
	// The verifier has to see that it is at least 1.
	if (length && length <= MOST_OPTIONS && !load_bytes(skb, at, &old, length)) {
		new = old;
#pragma clang loop unroll(disable)
		for (int turn = 0; turn < MOST_ALIKE; turn++) {
			struct found found = {};

			find_options(&new, length, &found);
			if (without & WITHOUT_TIMESTAMPS)
				any |= blank(&new, found.at[OPTION_TIMESTAMPS], 10);
			if (without & WITHOUT_SACK)
				any |= blank(&new, found.at[OPTION_SACK_PERMITTED], 2);
		}
		changed += (__u32)csum_diff(&old, sizeof(old), &new, sizeof(new), 0);
		store_bytes(skb, at, &new, length, 0);
	}
	if (!any)
		return TC_ACT_UNSPEC;
	at = segment.tcp + __builtin_offsetof(struct tcp, offset);
	store_bytes(skb, at, &told.offset, 2, 0);
	at = segment.tcp + __builtin_offsetof(struct tcp, checksum);
	l4_csum_replace(skb, at, 0, fold_once(changed), 0);
	return count(SYN_BLANKED, TC_ACT_UNSPEC);
}

// Notes that it came by here, as src/tables.rs looks for it.
inline_ void note_syn(struct segment *segment, struct tcp *tcp)
{
	__u32 mixed = (swap(segment->key.from) ^ swap16(segment->key.from_port)) * 0x9e3779b1;
	__u32 at = mixed >> (32 - CAME_BITS);
	struct came *came = map_lookup(&syns, &at);

	if (!came)
		return;
	came->seq = swap(tcp->seq);
	came->from = segment->key.from;
}

// A client's SYN on its way to a listener of ours, if it is.
__attribute__((noinline)) int let_in(struct __sk_buff *skb, __u32 frame)
{
	struct bpf_fib_lookup way = {};
	struct listener listener = {};
	struct segment segment;
	struct tcp tcp;
	__u32 *without;
	long answer;

	if (!parse(skb, frame, &segment, &tcp))
		return TC_ACT_UNSPEC;
	note_syn(&segment, &tcp);
	listener.address = segment.key.to;
	listener.port = segment.key.to_port;
	without = map_lookup(&listeners, &listener);
	if (!without) {
		listener.address = 0;
		without = map_lookup(&listeners, &listener);
	}
	if (!without)
		return TC_ACT_UNSPEC;
	// A host that forwards sees other people's SYNs too.
	way.family = 2; // AF_INET
	way.l4_protocol = IPPROTO_TCP;
	way.ifindex = skb->ifindex;
	way.ipv4_src = segment.key.from;
	way.ipv4_dst = segment.key.to;
	answer = fib_lookup(skb, &way, sizeof(way), 0);
	if (answer != BPF_FIB_LKUP_RET_NOT_FWDED && answer != BPF_FIB_LKUP_RET_FWD_DISABLED)
		return TC_ACT_UNSPEC;
	return blank_offers(skb, frame, *without);
}
