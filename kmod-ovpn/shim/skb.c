// SPDX-License-Identifier: GPL-2.0
/* Packets: from the stack's shapes to batches of contiguous ones, and back. */

#include <linux/skbuff.h>
#include <linux/unaligned.h>
#include <net/dst.h>
#include <net/gso.h>
#include <net/pkt_sched.h>
#include <net/sock.h>

#include "internal.h"

static_assert(sizeof(struct ovpn_pkt) <= sizeof_field(struct sk_buff, cb));
static_assert(__alignof__(struct ovpn_pkt) <= __alignof__(u64));

void ovpn_skb_free(struct sk_buff *skb)
{
	kfree_skb(skb);
}

void ovpn_pkts_free(struct ovpn_pkt *head, bool consumed)
{
	while (head) {
		struct sk_buff *skb = ovpn_pkt_skb(head);

		head = head->next;
		if (consumed)
			consume_skb(skb);
		else
			kfree_skb(skb);
	}
}

/* UDP's way to say that a sum came out as 0, which means none (RFC 768). */
static void ovpn_no_zero_sum(void *sum)
{
	if (!get_unaligned((u16 *)sum))
		put_unaligned((__force u16)CSUM_MANGLED_0, (u16 *)sum);
}

/* A contiguous copy with headroom and a finished checksum, made in one pass
 * over the payload. The socket that is charged for skb is charged for the
 * copy instead, which keeps TCP small queues working.
 */
static struct sk_buff *ovpn_tx_copy(struct sk_buff *skb)
{
	unsigned int room = OVPN_HEADROOM + LL_MAX_HEADER;
	struct sk_buff *copy;

	/* The copy below insists that the checksummed part starts in the
	 * linear area; a packet injected from userspace may break that.
	 */
	if (skb->ip_summed == CHECKSUM_PARTIAL &&
	    !pskb_may_pull(skb, skb_checksum_start_offset(skb)))
		return NULL;

	copy = alloc_skb(room + skb->len, GFP_ATOMIC);
	if (unlikely(!copy))
		return NULL;
	skb_reserve(copy, room);
	skb_copy_and_csum_dev(skb, skb_put(copy, skb->len));
	if (skb->ip_summed == CHECKSUM_PARTIAL)
		ovpn_no_zero_sum(copy->data + skb_checksum_start_offset(skb) +
				 skb->csum_offset);

	copy->dev = skb->dev;
	copy->protocol = skb->protocol;
	copy->priority = skb->priority;
	copy->mark = skb->mark;
	skb_copy_hash(copy, skb);

	/* The destructors of internet sockets look at nothing but the owner and
	 * the charge; a packet socket's finds its ring by what only the
	 * original has.
	 */
	if (skb->destructor && skb->sk && sk_is_inet(skb->sk)) {
		/* The charge is the truesize: exchange it with the owner. */
		swap(copy->truesize, skb->truesize);
		swap(copy->destructor, skb->destructor);
		swap(copy->sk, skb->sk);
	}
	consume_skb(skb);
	return copy;
}

/* Whether encryption may work in the packet's own buffer. */
static bool ovpn_tx_in_place(const struct sk_buff *skb)
{
	return !skb_shared(skb) && !skb_cloned(skb) && !skb_is_nonlinear(skb) &&
	       skb_headroom(skb) >= OVPN_HEADROOM;
}

/* NULL and skb freed when memory runs out. */
static struct sk_buff *ovpn_tx_own(struct sk_buff *skb)
{
	struct sk_buff *own;

	if (ovpn_tx_in_place(skb)) {
		if (skb->ip_summed == CHECKSUM_PARTIAL &&
		    unlikely(skb_checksum_help(skb))) {
			kfree_skb(skb);
			return NULL;
		}
		return skb;
	}
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (unlikely(!skb))
		return NULL;
	own = ovpn_tx_copy(skb);
	if (unlikely(!own))
		kfree_skb(skb);
	return own;
}

int ovpn_tx_split(struct sk_buff *skb, struct ovpn_batch *out, u32 *lost)
{
	struct sk_buff *next;

	/* No later step needs the inner route or answers the sender, whose
	 * address conntrack knows. Tracking of the inner flow ends at the tunnel.
	 */
	skb_dst_drop(skb);
	nf_reset_ct(skb);

	if (skb_is_gso(skb)) {
		/* No features: the segments come out linear and summed, copied
		 * in the same pass.
		 */
		struct sk_buff *segs = skb_gso_segment(skb, 0);

		if (IS_ERR_OR_NULL(segs)) {
			kfree_skb(skb);
			return segs ? PTR_ERR(segs) : -EINVAL;
		}
		consume_skb(skb);
		skb = segs;
	}

	for (; skb; skb = next) {
		next = skb->next;
		skb_mark_not_on_list(skb);
		skb = ovpn_tx_own(skb);
		if (unlikely(!skb)) {
			++*lost;
			continue;
		}
		/* The outer headers are built without the inner packet's GSO
		 * and checksum state, but find it by these offsets.
		 */
		skb->ip_summed = CHECKSUM_NONE;
		skb->encapsulation = 0;
		skb_reset_network_header(skb);
		skb_reset_inner_headers(skb);
		ovpn_batch_add(out, skb);
		out->tail->ecn = ovpn_ecn_of(skb);
	}
	return 0;
}

int ovpn_tx_message(struct ovpn_dev *dev, const u8 *data, u32 len,
		    struct ovpn_batch *out)
{
	unsigned int room = OVPN_HEADROOM + LL_MAX_HEADER;
	struct sk_buff *skb = alloc_skb(room + len, GFP_ATOMIC);

	if (unlikely(!skb))
		return -ENOMEM;
	skb_reserve(skb, room);
	skb_put_data(skb, data, len);
	skb->dev = dev->net;
	skb->priority = TC_PRIO_BESTEFFORT;
	skb_reset_network_header(skb);
	skb_reset_inner_headers(skb);
	ovpn_batch_add(out, skb);
	return 0;
}

int ovpn_rx_take(struct sk_buff *skb, u32 strip, struct ovpn_batch *out)
{
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (unlikely(!skb))
		return -ENOMEM;
	/* Contiguous and ours alone, so that decryption may happen in place.
	 * skb_linearize_cow() also copies when a tap shares the data.
	 */
	if (unlikely(!pskb_may_pull(skb, strip) || skb_linearize_cow(skb))) {
		kfree_skb(skb);
		return -ENOMEM;
	}
	__skb_pull(skb, strip);
	ovpn_batch_add(out, skb);
	/* The outer IP header stays in front. */
	out->tail->ecn = ovpn_ecn_of(skb);
	return 0;
}

u32 ovpn_rx_put_aside(struct ovpn_dev *dev, struct ovpn_pkt *pkt)
{
	struct sk_buff *skb = ovpn_pkt_skb(pkt);

	skb_orphan(skb);
	skb_dst_drop(skb);
	nf_reset_ct(skb);
	skb_ext_reset(skb);
	skb->dev = dev->net;
	return skb->truesize;
}

u32 ovpn_pkts_memory(const struct ovpn_pkt *head)
{
	u32 bytes = 0;

	for (; head; head = head->next)
		bytes += ovpn_pkt_skb((struct ovpn_pkt *)head)->truesize;
	return bytes;
}
