// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The tables of the kernel path, and what the program calls. src/layout.rs has the same layout.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define inline_ static __attribute__((always_inline))
#define uint_of(name, value) int(*name)[value]
#define type_of(name, type) typeof(type) *name

// linux/bpf.h: the numbers of what is called.
static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*now_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*load_bytes)(const void *skb, __u32 at, void *to, __u32 len) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*store_bytes)(void *skb, __u32 at, const void *from, __u32 len, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
static __s64 (*csum_diff)(const void *from, __u32 from_len, const void *to, __u32 to_len,
			  __u32 seed) = (void *)BPF_FUNC_csum_diff;
static long (*l3_csum_replace)(void *skb, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l3_csum_replace;
static long (*l4_csum_replace)(void *skb, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static long (*fib_lookup)(void *skb, struct bpf_fib_lookup *params, int len, __u32 flags) =
	(void *)BPF_FUNC_fib_lookup;
static long (*change_head)(void *skb, __u32 len, __u64 flags) = (void *)BPF_FUNC_skb_change_head;
static long (*pull_data)(void *skb, __u32 len) = (void *)BPF_FUNC_skb_pull_data;
static long (*redirect_neigh)(__u32 ifindex, void *params, int len, __u64 flags) =
	(void *)BPF_FUNC_redirect_neigh;

// What rewritten segments and our own resets carry, so that the guard lets them out.
#define MARK 0x6d77

enum state {
	SETUP,   // its segments go up to the stack; only counted
	HOLD,    // dropped: the peers send them again
	LIVE,    // rewritten
	CLOSING, // rewritten still, for what comes late
	PASSED,  // up to the stack, deleted at once
};

enum side_number { CLIENT, SERVER };

// What a segment comes with, in network order.
struct key {
	__be32 from, to;
	__be16 from_port, to_port;
};

struct place {
	__u32 flow; // in `gates` and `flows`; or LINGERS, FORGOTTEN
	__u32 side; // who says it
};

// Instead of a flow: it is over, and `lingering` says how what comes late is rewritten; or the
// client has come back from the same port, and the stack decides.
#define LINGERS 0xffffffff
#define FORGOTTEN 0xfffffffe

// What user space reads and writes in place, by mmap: a cache line a flow, all words atomic.
struct gate {
	__u32 state;
	__u32 greeting;   // 1 while the client hasn't acknowledged all of it
	__u32 tsval[2];   // that each side said last; 0 for none
	__u32 counted[2]; // bytes of payload that came in any state, and one for each FIN or RST
	__u32 out[2];     // the interface that our own segments to each side went out by first; user
			  // space's to change where routes change
	__u32 acked[2];   // when the other side last acknowledged something new of each, in units
			  // of 2^20 ns
	__u32 rcv_nxt[2]; // behind the last that each side said, until it is live; the client's is
			  // user space's to write
	__u32 snd_nxt[2]; // behind the last that our own socket said to each, until it is live
	__u32 recorded;   // what user space has to do with its record, in its own words
	__u32 mss;        // of the server's SYN, in bytes; 0 if that has none; CUT if what the server
			  // says may be cut into fragments; what our SYN to the server is to be without
};

#define CUT 0x80000000

// What a SYN is to be without, since the other leg is; bits of `mss` and of `listeners`.
#define WITHOUT_TIMESTAMPS 0x10000
#define WITHOUT_SACK 0x20000

// Where clients come in whose sessions may be flows.
struct listener {
	__be32 address; // 0 for all
	__be16 port;
	__u16 reserved;
};

// How a side's segments are told to the other one.
struct translation {
	struct key told; // by whom and to whom the rewritten segment goes
	__u32 seq_add, ack_add;
	__u32 tsval_add, tsecr_add;
	__u8 left, right; // the announced window is shifted by the difference of the scales
	__u8 scale;       // this peer's own
	__u8 reserved;
};

// What one peer says, and how the other one is told that. Numbers are in host order.
struct side {
	struct translation told_as;
	__u32 snd_nxt;    // behind the last byte that it said, in its own numbers (RFC 9293, 3.3.1)
	__u32 snd_una;    // up to where the other has acknowledged that
	__u32 wnd_end;    // up to where the other has ever said that it takes it
	__u32 fin;        // behind its FIN; valid with END_FIN
	__u32 ends;
	__u16 max_window; // the largest that it has announced, in units of its scale
	__u16 mss;        // the largest segment that it takes, options included, as its SYN says
	__u64 bytes_acked; // of payload
	__u64 segs_in;
	__u64 acked_ns; // when the other last acknowledged something new of it
	// Of the payload that was new last how it begins; of a client's in plain text how it ends.
	__u64 words;
};

// What is left of a flow that is over, for what one side says late.
struct late {
	struct translation told_as;
	__u32 out;   // the interface that leads to the other side
	__u32 until; // user space's own
};

#define END_FIN 1       // it said it; what it says behind that takes it back
#define END_FIN_ACKED 2 // and the other has heard it
#define END_RST 4
#define END_FIRST 8 // nobody had ended before

struct flow {
	__u32 greeting_begin, greeting_end; // what was said of it last, in our numbers towards the client
	__u32 greeting_seq; // where all of it begins, in the server's numbers
	struct bpf_spin_lock lock; // of what follows
	struct side sides[2];
	__u8 note[64]; // user space's own
};

// As src/layout.rs has them: tests/it/layout.rs compares all of it.
_Static_assert(sizeof(struct gate) == 64, "a gate");
_Static_assert(sizeof(struct side) == 88, "what a side says");
_Static_assert(sizeof(struct flow) == 256, "a flow");
_Static_assert(sizeof(struct late) == 40, "what is left of a side");

// User space says how many of each there are when it loads them (src/program.rs).
struct {
	uint_of(type, BPF_MAP_TYPE_HASH);
	uint_of(max_entries, 1);
	uint_of(map_flags, BPF_F_NO_PREALLOC);
	type_of(key, struct key);
	type_of(value, struct place);
} places SEC(".maps");

struct {
	uint_of(type, BPF_MAP_TYPE_ARRAY);
	uint_of(max_entries, 1);
	uint_of(map_flags, BPF_F_MMAPABLE);
	type_of(key, __u32);
	type_of(value, struct gate);
} gates SEC(".maps");

struct {
	uint_of(type, BPF_MAP_TYPE_ARRAY);
	uint_of(max_entries, 1);
	type_of(key, __u32);
	type_of(value, struct flow);
} flows SEC(".maps");

struct {
	uint_of(type, BPF_MAP_TYPE_HASH);
	uint_of(max_entries, 1);
	uint_of(map_flags, BPF_F_NO_PREALLOC);
	type_of(key, struct key);
	type_of(value, struct late);
} lingering SEC(".maps");

// A bit for each flow that user space is to look at; it reads and clears them in place, by mmap. An
// array has its values 8 bytes apart at least.
struct bits {
	__u32 words[2];
};

struct {
	uint_of(type, BPF_MAP_TYPE_ARRAY);
	uint_of(max_entries, 1);
	uint_of(map_flags, BPF_F_MMAPABLE);
	type_of(key, __u32);
	type_of(value, struct bits);
} moved SEC(".maps");

struct {
	uint_of(type, BPF_MAP_TYPE_HASH);
	uint_of(max_entries, 4096);
	uint_of(map_flags, BPF_F_NO_PREALLOC);
	type_of(key, struct listener);
	type_of(value, __u32);
} listeners SEC(".maps");

// The last SYN that came in of those that share a place: where it begins, and who sent it. User space
// looks there, by mmap, whether a client's segments pass by here.
struct came {
	__u32 seq;
	__be32 from;
};

_Static_assert(sizeof(struct came) == 8, "a SYN that came in");

// Between a SYN and its connection lies a round trip: of 3 000 a second over 200 ms two in a thousand
// find another one in their place.
#define CAME_BITS 18

struct {
	uint_of(type, BPF_MAP_TYPE_ARRAY);
	uint_of(max_entries, 1 << CAME_BITS);
	uint_of(map_flags, BPF_F_MMAPABLE);
	type_of(key, __u32);
	type_of(value, struct came);
} syns SEC(".maps");

enum counter {
	REWRITTEN,
	TO_STACK,
	HELD,
	DROPPED_FRAGMENT,
	DROPPED_HEADER,
	GUARDED,
	TOO_BIG,
	DROPPED_TOO_BIG,
	SYN_BLANKED,
	COUNTERS
};

struct {
	uint_of(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	uint_of(max_entries, COUNTERS);
	type_of(key, __u32);
	type_of(value, __u64);
} counters SEC(".maps");
