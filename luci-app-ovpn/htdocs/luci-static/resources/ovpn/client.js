// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require form';
'require ovpn.validate as validate';

/* Options of an interface that ovpnd connects to an OpenVPN server by itself. Their names are OpenVPN's, with underscores. */

/* Those that name a file. */
const FILES = [ 'ca', 'cert', 'key', 'extra_certs', 'crl_verify', 'askpass', 'auth_user_pass', 'user_file', 'tls_auth', 'tls_crypt', 'tls_crypt_v2' ];
/* One of these protects the control channel. */
const WRAPS = [ 'tls_auth', 'tls_crypt', 'tls_crypt_v2' ];

return baseclass.extend({
	FILES,

	/* Adds them to the section `s` of the dialog. `isClient` and `hasTls` bind an option to kinds of tunnels. */
	options(s, isClient, hasTls) {
		const add = (tab, Type, name, bind, ...words) => {
			const o = s.taboption(tab, Type, name, ...words);

			bind(o);

			return o;
		};
		const path = (tab, name, bind, ...words) => {
			const o = add(tab, form.Value, name, bind, ...words);

			o.placeholder = '/etc/ovpn/%s.%s'.format(s.section, name.replace(/_/g, '-'));
			o.validate = (section_id, value) => validate.path(value);

			return o;
		};
		let o;

		s.tab('tls', _('TLS'));

		o = add('general', form.DynamicList, 'remote', isClient, _('Servers'),
			_('Name or address, port and protocol, for instance vpn.example.org 1194 udp. After a failure it is the next one’s turn.'));
		o.validate = function(section_id, value) {
			return validate.remote(value, L.toArray(this.section.formvalue(section_id, 'remote')));
		};

		path('general', 'ca', hasTls, _('Certificate authority'), _('Import under VPN > OpenVPN (kernel) writes the files of an .ovpn file.'));
		path('general', 'cert', hasTls, _('Certificate'));
		path('general', 'key', hasTls, _('Private key'), _('Readable by root alone.'));
		o = path('general', 'auth_user_pass', isClient, _('File with user and password'),
			_('Two lines, readable by root alone; or the word ask: the overview asks for them at each start, and nothing is kept.'));
		o.validate = (section_id, value) => value == 'ask' || validate.path(value);

		o = add('tls', form.DynamicList, 'peer_fingerprint', hasTls, _('Fingerprints of the other end'),
			_('SHA-256 of its certificate, in place of a certificate authority.'));
		o.validate = (section_id, value) => validate.fingerprint(value);

		o = add('tls', form.ListValue, 'remote_cert_tls', isClient, _('The other end’s certificate'));
		o.value('', _('of any purpose'));
		o.value('server', _('of a server'));

		o = add('tls', form.Value, 'verify_x509_name', isClient, _('Name of the server’s certificate'));
		o = add('tls', form.ListValue, 'verify_x509_type', isClient, _('That name is'));
		o.value('', _('the whole subject'));
		o.value('name', _('its common name'));
		o.value('name-prefix', _('the beginning of its common name'));

		for (const [ name, words ] of [ [ 'tls_auth', 'tls-auth' ], [ 'tls_crypt', 'tls-crypt' ], [ 'tls_crypt_v2', 'tls-crypt-v2' ] ]) {
			o = path('tls', name, hasTls, _('Key of %s').format(words));
			o.validate = function(section_id, value) {
				const other = WRAPS.find(wrap => wrap != name && value && this.section.formvalue(section_id, wrap));

				return other ? _('There is a key of %s already: use one of them.').format(other.replace(/_/g, '-')) : validate.path(value);
			};
		}

		o = add('tls', form.ListValue, 'key_direction', hasTls, _('Direction of the tls-auth key'));
		o.value('', _('none'));
		o.value('0');
		o.value('1');

		o = add('tls', form.ListValue, 'auth', hasTls, _('Digest of tls-auth'));
		o.value('', 'SHA1');
		[ 'SHA256', 'SHA384', 'SHA512' ].forEach(digest => o.value(digest));

		path('tls', 'extra_certs', hasTls, _('More certificates'));
		path('tls', 'crl_verify', hasTls, _('Revocation list'));
		path('tls', 'askpass', hasTls, _('File with the key’s passphrase'), _('Readable by root alone.'));

		o = add('tls', form.ListValue, 'tls_version_min', hasTls, _('Least version of TLS'));
		o.value('', '1.2');
		o.value('1.3');

		o = add('advanced', form.Value, 'data_ciphers', hasTls, _('Ciphers'),
			_('Of the tunnel, best first, with colons between them.'));
		o.placeholder = 'AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305';
		o.validate = (section_id, value) => validate.ciphers(value);

		o = add('advanced', form.Value, 'tun_mtu', hasTls, _('MTU'), _('Largest packet in the tunnel, in bytes; the server’s choice when this is empty.'));
		o.datatype = 'range(576,65451)';

		o = add('advanced', form.Value, 'reneg_sec', hasTls, _('New key after'), _('Seconds; 0 leaves it to the server.'));
		o.placeholder = '3600';
		o.validate = (section_id, value) => validate.renegotiation(value);

		add('advanced', form.Flag, 'route_nopull', isClient, _('No routes of the server'),
			_('Its networks and its wish to be the default route are not taken.'));

		o = add('advanced', form.DynamicList, 'pull_filter', isClient, _('Filter of the server’s options'),
			_('accept, ignore or reject, and how an option begins, for instance: ignore "redirect-gateway".'));
		o.validate = (section_id, value) => !value || /^(accept|ignore|reject) +\S/.test(value)
			? true : _('This must be accept, ignore or reject, and a text.');

		add('advanced', form.Flag, 'remote_random', isClient, _('Servers in random order'));
	}
});
