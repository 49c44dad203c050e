/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that Rust may call, in a header for each C file. bindgen reads them, so
 * they name no kernel type but by opaque pointer.
 *
 * Functions marked [any] may be called from any context but NMI, [rcu] need the
 * RCU read lock, [sleep] need a context that may sleep.
 */
#ifndef OVPN_SHIM_H
#define OVPN_SHIM_H

#include "api/types.h"
#include "api/aead.h"
#include "api/answer.h"
#include "api/cells.h"
#include "api/chachapoly.h"
#include "api/genl.h"
#include "api/netdev.h"
#include "api/notify.h"
#include "api/order.h"
#include "api/params.h"
#include "api/path.h"
#include "api/plain.h"
#include "api/rcu.h"
#include "api/route.h"
#include "api/skb.h"
#include "api/sock.h"
#include "api/stats.h"
#include "api/table.h"
#include "api/tcp.h"

#endif /* OVPN_SHIM_H */
