// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';

/* Reads an .ovpn file as far as an import shows it; whether the kernel takes it, ovpnd says. */

/* Directives that name a file unless it stands in the text. */
const FILES = [ 'ca', 'cert', 'key', 'dh', 'pkcs12', 'secret', 'tls-auth', 'tls-crypt', 'tls-crypt-v2', 'extra-certs',
	'crl-verify', 'askpass', 'auth-user-pass' ];
/* Blocks that nobody needs to see. */
const SECRET = [ 'key', 'secret', 'tls-auth', 'tls-crypt', 'tls-crypt-v2', 'pkcs12', 'auth-user-pass' ];
/* IFNAMSIZ of Linux without its end. */
const MAX_NAME = 15;

function words(line) {
	return (line.replace(/^\s*[#;].*$/, '').match(/"(?:\\.|[^"\\])*"|'[^']*'|[^\s#;]\S*/g) || [])
		.map(word => word.replace(/^(["'])(.*)\1$/, '$2'));
}

return baseclass.extend({
	/* { directives: [[name, ...args]], files: [[name, path]], asksUser, preview } */
	parse(text) {
		const directives = [];
		const preview = [];
		const files = [];
		let block = null;
		let lines = 0;
		let asksUser = false;

		for (const line of text.replace(/^\ufeff/, '').split(/\r?\n/)) {
			const opens = block ? null : line.trim().match(/^<(?!connection>)([a-z0-9-]+)>$/);

			if (opens) {
				block = opens[1];
				lines = 0;
				directives.push([ block, '[inline]' ]);
				preview.push('<%s>'.format(block));
			}
			else if (block && line.trim() == '</%s>'.format(block)) {
				if (SECRET.includes(block))
					preview.push('    ' + _('… %d lines, not shown').format(lines));

				preview.push('</%s>'.format(block));
				block = null;
			}
			else if (block) {
				lines++;

				if (!SECRET.includes(block))
					preview.push(line);
			}
			else {
				const found = words(line);

				if (found.length)
					directives.push([ found[0].replace(/^--/, ''), ...found.slice(1) ]);

				preview.push(line);
			}
		}

		/* A block that does not end is not shown, whatever it is; ovpnd says so. */
		for (const [ name, path ] of directives)
			if (FILES.includes(name) && path && path != '[inline]')
				files.push([ name, path ]);
			else if (name == 'auth-user-pass' && !path)
				asksUser = true;

		return { directives, files, asksUser, preview: preview.join('\n') };
	},

	/* A name of an interface out of that of a file, which `taken` does not have. */
	name(file, taken) {
		const base = String(file || '').replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '').toLowerCase()
			.replace(/[^a-z0-9_]+/g, '_').replace(/^_+|_+$/g, '').replace(/^([0-9])/, 'v$1');
		const wanted = (base || 'vpn').substring(0, MAX_NAME);

		for (let number = 0; ; number++) {
			const suffix = number ? String(number) : '';
			const name = wanted.substring(0, MAX_NAME - suffix.length) + suffix;

			if (!taken(name))
				return name;
		}
	}
});
