#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the example against a stock OpenVPN, which is in a root of its own: run.sh EXAMPLE ROOT [FILTER]
# In a network namespace of its own, with files in a temporary folder. Ends with the number of failures.
set -u
[ -n "${INTEROP_INNER:-}" ] || exec env INTEROP_INNER=1 unshare -n "$0" "$@"
example=$1 root=$2 filter=${3:-.}
ip link set lo up
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
# Without its modules OpenSSL has all that is needed; with those of another version it has none.
stock() { OPENSSL_CONF=/dev/null "$root"/lib64/ld-linux-x86-64.so.2 --library-path "$libraries" "$root"/usr/sbin/openvpn "$@"; }

certificate() { # NAME PURPOSE
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null
	printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyAgreement\nextendedKeyUsage=%s\n' "$2" > ext
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -days 30 -extfile ext -out "$1.crt" 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=ca 2>/dev/null
certificate server serverAuth
certificate client clientAuth
stock --genkey secret static.key
stock --genkey tls-crypt-v2-server v2-server.key
stock --tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client v2-client.key

failures=0 port=2000
one() { # ROLE WRAP PROTO TLS EKM SECONDS RENEG [STOCK'S OPTIONS]
	local role=$1 wrap=$2 proto=$3 tls=$4 ekm=$5 seconds=$6 reneg=$7
	shift 7
	local name="$role $wrap $proto $tls ekm=$ekm reneg=$reneg $*"
	[[ $name =~ $filter ]] || return
	port=$((port + 1))
	local other=client ours=(role="$role" wrap="$wrap" proto="$proto" tls="$tls" ekm="$ekm" dyn="$ekm" reneg=0
		ca=ca.crt cert="$role.crt" key="$role.key" addr=127.0.0.1:$port seconds="$seconds")
	[ "$role" = client ] && other=server
	local theirs=(--dev tun --disable-dco --verb 4 --ca ca.crt --cert $other.crt --key $other.key
		--reneg-sec "$reneg" "$reneg" --tls-version-min "$tls" --tls-version-max "$tls" --data-ciphers AES-256-GCM)
	case $wrap in
	auth)
		[ "$role" = client ] && ours+=(direction=1) theirs+=(--tls-auth static.key 0)
		[ "$role" = server ] && ours+=(direction=0) theirs+=(--tls-auth static.key 1)
		ours+=(wrap-key=static.key) ;;
	crypt) ours+=(wrap-key=static.key) theirs+=(--tls-crypt static.key) ;;
	v2) ours+=(wrap-key=v2-$role.key) theirs+=(--tls-crypt-v2 v2-$other.key) ;;
	esac
	if [ "$role" = client ]; then
		[ "$wrap" = v2 ] && theirs[-1]='v2-server.key' && theirs+=(force-cookie)
		stock "${theirs[@]}" --server 10.9.0.0 255.255.255.0 --topology subnet --dh none --lport $port \
			--proto ${proto/tcp/tcp-server} --ping 1 --ping-restart 6 --push 'ping 1' "$@" > theirs.log 2>&1 &
		# The first packet of a client that is too early comes again seconds later.
		until grep -qE 'link local \(bound\)|Listening for incoming TCP' theirs.log; do
			kill -0 $! 2>/dev/null || break
			sleep 0.05
		done
	else
		stock "${theirs[@]}" --client --remote 127.0.0.1 $port --nobind --proto ${proto/tcp/tcp-client} \
			--remote-cert-tls server --connect-retry 1 "$@" > theirs.log 2>&1 &
	fi
	local stock_pid=$!
	"$example" "${ours[@]}" > ours.log 2>&1
	kill $stock_pid 2>/dev/null
	wait $stock_pid 2>/dev/null
	local result
	result=$(grep RESULT ours.log || tail -n 1 ours.log)
	# Up once, all data read, as many keys as the renegotiations make.
	local keys=1
	[ "$reneg" != 0 ] && keys=$((seconds / reneg - 1))
	local installs=${result#*installs=} read=${result#*read=}
	if [[ $result =~ up=1\  && $result =~ unreadable=0\  ]] && [ "${installs%% *}" -ge $keys ] && [ "${read%% *}" -ge $((seconds / 2 - 1)) ]; then
		echo "ok   $name: $result"
	else
		echo "FAIL $name: $result"
		failures=$((failures + 1))
		[ -n "${KEEP:-}" ] && cp theirs.log "$KEEP/theirs.log" && cp ours.log "$KEEP/ours.log"
	fi
}

for role in client server; do
	for wrap in none auth crypt v2; do
		one $role $wrap udp 1.3 1 5 0
		one $role $wrap tcp 1.2 0 5 0
		one $role $wrap udp 1.2 1 5 0
		one $role $wrap tcp 1.3 1 5 0
		one $role $wrap udp 1.3 0 5 0
		one $role $wrap udp 1.3 1 40 5
	done
done
exit $failures
