// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Segments as the program reads them: their headers, their options, and how these are translated.

#include "tables.h"

struct tcp {
	__be16 from_port, to_port;
	__be32 seq, ack;
	__u8 offset; // of the payload, in its upper half, in words
	__u8 flags;
	__be16 window;
	__u16 checksum;
	__be16 urgent;
};

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define ECE 0x40 // with CWR and AE what a SYN offers of ECN (RFC 3168, 6.1.1)
#define CWR 0x80
#define AE 0x01 // beside the offset (RFC 9768, 3.1.1)

#define FIXED sizeof(struct tcp)
#define MOST_OPTIONS 40

// What an interface's frames begin with: an Ethernet header, or IPv4 (a tunnel's, PPP's).
#define ETHERNET ETH_HLEN
#define BARE 0

struct segment {
	struct key key;
	__u32 frame;     // ETHERNET or BARE: bytes before its IPv4 header
	__u32 tcp;       // its header's offset
	__u32 options;   // bytes
	__u32 payload;   // bytes
	__u8 fragmented; // the rest of it comes by itself
	__u8 whole;      // it may not be cut into fragments
	__u8 ttl;
};

inline_ __u32 swap(__u32 value)
{
	return __builtin_bswap32(value);
}

inline_ __u16 swap16(__u16 value)
{
	return __builtin_bswap16(value);
}

// Whether `a` comes after `b`, as RFC 9293 compares (3.4).
inline_ int after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

inline_ int count(__u32 what, int verdict)
{
	__u64 *counter = map_lookup(&counters, &what);

	if (counter)
		*counter += 1;
	return verdict;
}

// Its IPv4 header in memory, or 0 where it has none; what comes behind it may lie elsewhere.
inline_ struct iphdr *ip_header(struct __sk_buff *skb, __u64 frame)
{
	struct iphdr *ip;

	// The verifier has to see it where it isn't known.
	asm volatile("" : "+r"(frame));
	if (frame > ETHERNET)
		return 0;
	ip = (void *)(long)skb->data + frame;

	// What is tagged has its turn at the interface of its VLAN.
	if (skb->protocol != swap16(ETH_P_IP) || skb->vlan_present)
		return 0;
	return (void *)(ip + 1) > (void *)(long)skb->data_end ? 0 : ip;
}

// Its TCP header in memory, or 0.
inline_ struct tcp *tcp_header(struct __sk_buff *skb, __u64 at)
{
	struct tcp *tcp;

	// Seen by the verifier for the register that is used.
	asm volatile("" : "+r"(at));
	if (at > ETH_HLEN + 60)
		return 0;
	tcp = (void *)(long)skb->data + at;
	return (void *)(tcp + 1) > (void *)(long)skb->data_end ? 0 : tcp;
}

// Reads what is needed to find a flow; 0 where it isn't a TCP segment of IPv4.
inline_ int parse(struct __sk_buff *skb, __u32 frame, struct segment *segment, struct tcp *tcp)
{
	struct iphdr *ip = ip_header(skb, frame);
	struct tcp *found;
	__u32 head, all, own;

	if (!ip || ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_TCP)
		return 0;
	// Later fragments have no ports: without the first one they are never put together.
	if (ip->frag_off & swap16(0x1fff))
		return 0;
	own = ip->ihl * 4;
	segment->frame = frame;
	segment->tcp = frame + own;
	segment->key.from = ip->saddr;
	segment->key.to = ip->daddr;
	segment->fragmented = !!(ip->frag_off & swap16(0x2000));
	segment->whole = !!(ip->frag_off & swap16(0x4000));
	segment->ttl = ip->ttl;
	// Not the skb's length: short frames are padded. 0 for what was put together beyond 64 KiB.
	all = swap16(ip->tot_len);
	if (!all)
		all = skb->len - frame;
	found = tcp_header(skb, segment->tcp);
	if (!found)
		return 0;
	*tcp = *found;
	segment->key.from_port = tcp->from_port;
	segment->key.to_port = tcp->to_port;
	head = (tcp->offset >> 4) * 4;
	segment->options = head - FIXED;
	segment->payload = all - own - head;
	return head >= FIXED && all >= own + head;
}

// Sends a segment out by another interface; an Ethernet header is what the kernel takes off.
inline_ int send(struct __sk_buff *skb, __u32 frame, __u32 out)
{
	if (frame == BARE && change_head(skb, ETH_HLEN, 0))
		return count(DROPPED_HEADER, TC_ACT_SHOT);
	return redirect_neigh(out, 0, 0, 0);
}

// How the sum of RFC 1071 differs where a word has changed; any number of these may be added.
inline_ __u64 change(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

// As `l4_csum_replace` takes it.
inline_ __u32 fold_once(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

// The sum of RFC 1071 that `csum_diff` gives, as headers have it.
inline_ __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

struct options {
	__u8 bytes[MOST_OPTIONS];
};

// Four bytes of the options in network order; 0 where there are none.
inline_ __u32 read_at(const struct options *options, __u64 at)
{
	__be32 value;

	asm volatile("" : "+r"(at));
	if (!at || at > MOST_OPTIONS - 4)
		return 0;
	__builtin_memcpy(&value, options->bytes + at, 4);
	return swap(value);
}

// Adds to four of them.
inline_ void add_at(struct options *options, __u64 at, __u32 amount)
{
	__be32 value;

	asm volatile("" : "+r"(at));
	if (!at || at > MOST_OPTIONS - 4)
		return;
	__builtin_memcpy(&value, options->bytes + at, 4);
	value = swap(swap(value) + amount);
	__builtin_memcpy(options->bytes + at, &value, 4);
}

#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_MSS 2
#define OPTION_SACK_PERMITTED 4
#define OPTION_SACK 5
#define OPTION_TIMESTAMPS 8

// Where each kind of option that is read has its value, and how long it is with kind and length; 0
// where there is none. Place 0 is for what isn't read.
#define KINDS 16

struct found {
	__u8 at[KINDS], size[KINDS];
};

// A value by kind, four bits each.
#define OF_KIND(kind, value) ((__u64)(value) << 4 * (kind))

// How long each is that is read; a SACK has up to three more edges of 8 bytes (RFC 2018, 3).
#define SIZES                                                                                      \
	(OF_KIND(OPTION_MSS, 4) | OF_KIND(OPTION_SACK_PERMITTED, 2) | OF_KIND(OPTION_SACK, 10) |   \
	 OF_KIND(OPTION_TIMESTAMPS, 10))
#define MORE_EDGES 0x38

// Each turn takes a byte at least.
#define MOST_TURNS MOST_OPTIONS
#define MOST_EDGES 8

// 1 for 0, 0 for anything else, without a branch.
inline_ __u64 is_zero(__u64 value)
{
	__u64 top = value | -value;

	// Or the compiler makes one of it after all.
	asm volatile("" : "+r"(top));
	return top >> 63 ^ 1;
}

// Goes through options as Linux does: from where they make no sense on they say nothing, and the
// segment counts for the rest of what it is. Of several of a kind the last counts. 0 for `found`.
//
// A function of its own, and not static: so the verifier looks at it once, and not for each way to
// it. The place is masked for it: whatever was added, it is any. And a turn has one way through it:
// the verifier goes through all of them, by turns many times as many.
__attribute__((noinline)) int find_options(const struct options *options, __u32 length,
					   struct found *found)
{
	__u64 at = 0;

	if (!options || !found)
		return 0;
#pragma clang loop unroll(disable)
	for (int turn = 0; turn < MOST_TURNS; turn++) {
		__u64 kind, size, is_nothing, differs;

		asm volatile("" : "+r"(at));
		// The last byte can only be an end or nothing.
		if (at >= length || at >= MOST_OPTIONS - 1)
			break;
		kind = options->bytes[at];
		if (kind == OPTION_END)
			break;
		is_nothing = is_zero(kind ^ OPTION_NOTHING);
		size = (options->bytes[at + 1] & (is_nothing - 1)) | is_nothing;
		if (size + is_nothing < 2 || at + size > length)
			break;
		differs = size - (SIZES >> (4 * kind & 63) & 15);
		differs &= ~(MORE_EDGES & -is_zero(kind ^ OPTION_SACK));
		kind &= -is_zero(differs | kind / KINDS) & (KINDS - 1);
		found->at[kind] = at + 2;
		found->size[kind] = size;
		at = (at + size) & 63;
	}
	return 0;
}

// SACK blocks tell of the other peer's bytes, as acknowledgements do (RFC 2018, RFC 2883).
inline_ void translate_edges(struct translation *side, struct options *options, struct found *found)
{
#pragma clang loop unroll(full)
	for (__u64 edge = 0; edge < MOST_EDGES; edge++)
		if (edge < found->size[OPTION_SACK] / 4)
			add_at(options, found->at[OPTION_SACK] + edge * 4, side->ack_add);
}

// Translates time stamps and SACK blocks. The time stamp as it was said; 0 for none.
inline_ __u32 translate_options(struct translation *side, struct options *options, __u32 length)
{
	struct found found = {};
	__u64 at;
	__u32 tsval;

	find_options(options, length, &found);
	translate_edges(side, options, &found);
	at = found.at[OPTION_TIMESTAMPS];
	tsval = read_at(options, at);
	if (at) {
		add_at(options, at, side->tsval_add);
		add_at(options, at + 4, side->tsecr_add);
	}
	return tsval;
}

// What the other one takes is announced in units of its own scale, and told in ours.
inline_ __be16 translate_window(struct translation *side, __be16 window)
{
	__u32 scaled = ((__u32)swap16(window) << (side->left & 15)) >> (side->right & 15);

	return swap16(scaled > 0xffff ? 0xffff : scaled);
}
