// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What a router says of a flow's segments that are too big for a way. For `ingress`, which has no
// other use for ICMP.

#include "syn.h"

// What an ICMP message says of a segment that couldn't be passed on (RFC 792, RFC 1191).
struct too_big {
	__u8 type, code;
	__u16 checksum;
	__be16 unused, mtu;
	struct iphdr ip;
	__be16 from_port, to_port;
	__be32 seq;
};

#define UNREACHABLE 3
#define FRAGMENTATION_NEEDED 4

// What every way takes (IPv6's, and the least that is met). Who is told less than that sends so
// little to all of its peers behind us for ten minutes.
#define LEAST_WAY 1280

// ICMP: a router on the way couldn't pass on a segment that was said to be ours, since it was too
// big (RFC 1191). Whoever said it is told, with its own numbers. Only about what was said and isn't
// acknowledged: who guesses the addresses doesn't know that. And only if segments of this flow can
// be as big as that: whoever receives them may say what it likes.
inline_ int too_big(struct __sk_buff *skb, __u32 frame)
{
	struct too_big old, new;
	__u32 number, other, way, at = frame + sizeof(struct iphdr);
	struct place *place;
	struct flow *flow;
	struct gate *gate;
	struct iphdr ip;
	struct key key;
	__s64 difference;

	if (skb->protocol != swap16(ETH_P_IP) || skb->vlan_present ||
	    load_bytes(skb, frame, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 ||
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
	number = swap(old.seq) - flow->sides[other].told_as.seq_add;
	way = swap16(old.mtu) < LEAST_WAY ? LEAST_WAY : swap16(old.mtu);
	if (after(flow->sides[other].snd_una, number) || !after(flow->sides[other].snd_nxt, number) ||
	    way >= flow->sides[place->side & 1].mss + sizeof(struct iphdr) + FIXED)
		return count(DROPPED_TOO_BIG, TC_ACT_SHOT);

	new = old;
	new.mtu = swap16(way);
	key = flow->sides[place->side & 1].told_as.told;
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
	l3_csum_replace(skb, frame + __builtin_offsetof(struct iphdr, check), ip.daddr, key.to,
			4);
	store_bytes(skb, frame + __builtin_offsetof(struct iphdr, daddr), &key.to, 4, 0);
	skb->mark = MARK;
	count(TOO_BIG, 0);
	return send(skb, frame, gate->out[other]);
}
