// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';

/* Reads an .ovpn file as far as an import shows it, the way OpenVPN reads it; whether it starts with it, ovpnd says. */

/* Directives that name a file unless it stands in the text. */
const FILES = [ 'ca', 'cert', 'key', 'dh', 'pkcs12', 'secret', 'tls-auth', 'tls-crypt', 'tls-crypt-v2', 'extra-certs',
	'crl-verify', 'askpass', 'auth-user-pass' ];
/* Directives whose words are secrets. */
const SECRET = [ 'auth-token' ];
/* Words of a line that OpenVPN looks at. */
const MAX_WORDS = 16;
/* IFNAMSIZ of Linux without its end. */
const MAX_NAME = 15;
/* White space of C's isspace. */
const SPACE = ' \t\n\v\f\r';

/* The words of a line; null when OpenVPN refuses it. */
function words(line) {
	const found = [];
	let word = null;
	let quote = null;
	let escaped = false;

	for (const c of [ ...line.split('\0')[0], '\n' ]) {
		const space = SPACE.includes(c);

		if (c == '\\' && !escaped && quote != "'") {
			escaped = true;
			continue;
		}

		if (word == null) {
			if (!space && (c == '#' || c == ';'))
				return found;

			if (!space) {
				quote = !escaped && (c == '"' || c == "'") ? c : null;
				word = quote ? '' : c;
			}
		}
		else if (!escaped && (quote ? c == quote : space)) {
			found.push(word);
			word = null;
			quote = null;

			if (found.length == MAX_WORDS)
				return found;
		}
		else {
			word += c;
		}

		if (escaped && word && !space && c != '\\' && c != '"')
			return null;

		escaped = false;
	}

	return word == null ? found : null;
}

/* The text of bytes: UTF-8, or ISO-8859-1 where they are none. */
function decode(bytes) {
	try {
		return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
	}
	catch {
		return new TextDecoder('iso-8859-1').decode(bytes);
	}
}

return baseclass.extend({
	words,
	decode,

	/* { directives: [[name, ...args]], files: [[name, path]], asksUser, preview } */
	parse(text) {
		const directives = [];
		const preview = [];
		const files = [];
		let block = null;
		let lines = 0;

		for (const line of text.replace(/^\ufeff/, '').split('\n')) {
			if (block) {
				if (line.trimStart().startsWith('</%s>'.format(block))) {
					preview.push('    ' + _('… %d lines, not shown').format(lines), '</%s>'.format(block));
					block = null;
				}

				lines++;
				continue;
			}

			const found = words(line);
			const name = found?.[0]?.replace(/^--(?=.)/, '');
			const [ , tag ] = (found?.length == 1 && name.match(/^<(.*)>$/)) || [];

			if (tag == 'connection' || tag == '/connection') {
				preview.push('<%s>'.format(tag));
			}
			else if (tag != null) {
				block = tag;
				lines = 0;
				directives.push([ tag, '[inline]' ]);
				preview.push(/^[a-z0-9-]+$/.test(tag) ? '<%s>'.format(tag) : _('… a line, not shown'));
			}
			else if (found?.length) {
				const optional = name == 'setenv' && found[1] == 'opt' && found.length > 2;

				directives.push(optional ? found.slice(2) : [ name, ...found.slice(1) ]);
				/* A line that is no directive may be one of a key that lost its tag. */
				preview.push(!/^[a-z][a-z0-9-]*$/.test(name) || /^[0-9a-f]{32}$/.test(name) ? _('… a line, not shown')
					: SECRET.includes(name) ? '%s …'.format(name) : line.replace(/\r$/, ''));
			}
			else {
				preview.push(found || /^\s*[a-z-]+\s/.test(line) ? line.replace(/\r$/, '') : _('… a line, not shown'));
			}
		}

		/* A block that does not end is not shown, whatever it is; ovpnd says so. */
		const user = directives.filter(([ name ]) => name == 'auth-user-pass').pop();

		for (const [ name, path ] of directives)
			if (FILES.includes(name) && path && path != '[inline]' && !(name == 'auth-user-pass' && path == 'username-only'))
				files.push([ name, path ]);

		const asksUser = user != null && (!user[1] || user[1] == 'username-only');

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
