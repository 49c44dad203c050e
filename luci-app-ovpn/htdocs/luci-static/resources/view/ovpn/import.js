// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require dom';
'require fs';
'require uci';
'require ui';
'require ovpn.api as api';
'require ovpn.parts as parts';
'require ovpn.profile as profile';
'require ovpn.validate as validate';

const DIR = '/etc/openvpn';
/* Octal 0600: files with keys are root's alone. */
const PRIVATE = 0o600;
/* A file with its certificates has some 10 KiB; a ubus message has room for 1 MiB. */
const MAX_FILE = 256 * 1024;
/* IFNAMSIZ of Linux without its end. */
const MAX_NAME = 15;

function row(title, node, hint) {
	return E('div', { 'class': 'cbi-value' }, [
		E('label', { 'class': 'cbi-value-title' }, [ title ]),
		E('div', { 'class': 'cbi-value-field' }, [
			node,
			hint ? E('div', { 'class': 'cbi-value-description' }, [ hint ]) : ''
		])
	]);
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return Promise.all([
			uci.load('network'),
			L.resolveDefault(fs.list(DIR), [])
		]);
	},

	render([ , present ]) {
		this.present = new Set(present.map(entry => entry.name));
		this.filename = null;
		this.text = E('textarea', {
			'id': 'ovpn-text', 'spellcheck': 'false', 'autocomplete': 'off',
			'placeholder': _('Drop an .ovpn file here, or paste its text')
		});
		this.file = E('input', {
			'type': 'file', 'id': 'ovpn-file', 'accept': '.ovpn,.conf',
			'change': () => this.handleFile(this.file.files[0])
		});
		this.preview = E('div', { 'id': 'ovpn-import-preview' });

		const drop = E('div', {
			'class': 'ovpn-drop',
			'dragover': (ev) => { ev.preventDefault(); drop.classList.add('ovpn-over'); },
			'dragleave': () => drop.classList.remove('ovpn-over'),
			'drop': (ev) => {
				drop.classList.remove('ovpn-over');

				if (ev.dataTransfer.files.length) {
					ev.preventDefault();
					this.handleFile(ev.dataTransfer.files[0]);
				}
			}
		}, [
			this.text,
			E('div', { 'class': 'ovpn-row' }, [
				this.file,
				E('button', {
					'class': 'btn cbi-button cbi-button-action important', 'id': 'ovpn-check',
					'click': ui.createHandlerFn(this, 'handleCheck')
				}, [ _('Check') ])
			])
		]);

		return E('div', [
			parts.style(),
			E('h2', [ _('Import an OpenVPN file') ]),
			E('p', [ _('Makes an interface of the protocol OpenVPN from a client’s file. It is checked first; nothing is written until you say so.') ]),
			drop,
			this.preview
		]);
	},

	say(...nodes) {
		dom.content(this.preview, nodes);
	},

	refuse(text) {
		this.say(parts.banner(null, { severity: 'error', code: 'import', text }));
	},

	handleFile(file) {
		if (!file)
			return Promise.resolve();

		if (file.size > MAX_FILE)
			return Promise.resolve(this.refuse(_('%s is too big for an OpenVPN file.').format(file.name)));

		return file.text().then(text => {
			this.text.value = text;
			this.filename = file.name;

			return this.handleCheck();
		}).catch(error => this.refuse(error.message));
	},

	handleCheck() {
		const text = this.text.value;

		if (!text.trim())
			return this.refuse(_('There is no text to import.'));

		if (text.length > MAX_FILE)
			return this.refuse(_('%s is too big for an OpenVPN file.').format(_('The text')));

		return api.lint(text)
			.then(verdict => this.show(text, profile.parse(text), verdict))
			.catch(error => this.refuse(error.message));
	},

	show(text, parsed, verdict) {
		const broken = verdict.findings.some(finding => finding.severity == 'error');
		const taken = (name) => uci.get('network', name) != null || this.present.has('%s.ovpn'.format(name));
		const name = new ui.Textfield(profile.name(this.filename, taken), {
			id: 'ovpn-name',
			validate: (value) => {
				const valid = validate.section(value, MAX_NAME);

				return valid !== true ? valid
					: taken(value) ? _('The name %s is taken.').format(value) : true;
			}
		});
		const user = new ui.Textfield('', { id: 'ovpn-user', optional: true });
		const password = new ui.Textfield('', { id: 'ovpn-password', optional: true, password: true });

		this.say(
			verdict.kernel_path
				? E('div', { 'class': 'alert-message success', 'id': 'ovpn-verdict' }, [
					E('p', [ _('The kernel can carry this tunnel.') ]) ])
				: E('div', { 'class': 'alert-message warning', 'id': 'ovpn-verdict' }, [
					E('p', [ _('The kernel cannot carry this tunnel; OpenVPN will do it itself, slower. The reasons stand below.') ]) ]),
			...verdict.findings.map(finding => parts.banner(null, finding)),
			...parsed.files.map(([ directive, path ]) => parts.banner(null, {
				severity: 'warning',
				code: 'external-file',
				text: _('%s names the file %s, which is not in the text.').format(directive, path),
				remedy: _('Put it on the router, or take a file with everything inside.')
			})),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', [ _('Preview') ]),
				row(_('Name of the interface'), name.render(), _('The file becomes %s.').format('%s/<%s>.ovpn'.format(DIR, _('name')))),
				row(_('Servers'), E('div', { 'id': 'ovpn-remotes' }, [ verdict.remotes.join(', ') || '–' ])),
				row(_('In the text'), E('div', { 'id': 'ovpn-inline' }, [ verdict.inline.join(', ') || '–' ])),
				...(parsed.asksUser ? [
					row(_('User'), user.render()),
					row(_('Password'), password.render(), _('Goes into a file that root alone can read, not into the configuration.'))
				] : []),
				E('pre', { 'class': 'ovpn-preview' }, [ parsed.preview ]),
				E('div', { 'class': 'cbi-page-actions' }, [
					E('button', {
						'class': 'btn cbi-button cbi-button-apply important', 'id': 'ovpn-create',
						'disabled': broken || !L.hasViewPermission() || null,
						'click': ui.createHandlerFn(this, () => this.handleCreate(text, parsed, name, user, password))
					}, [ _('Create interface') ])
				])
			])
		);
	},

	handleCreate(text, parsed, name, user, password) {
		name.triggerValidation();

		if (!name.isValid())
			return;

		const section = name.getValue();
		const path = '%s/%s.ovpn'.format(DIR, section);
		const auth = '%s/%s.auth'.format(DIR, section);
		const login = parsed.asksUser && user.getValue()
			? '%s\n%s\n'.format(user.getValue(), password.getValue() || '') : null;

		return fs.write(path, text.replace(/\r\n/g, '\n').replace(/\n*$/, '\n'), PRIVATE)
			.then(() => login ? fs.write(auth, login, PRIVATE) : null)
			.then(() => {
				uci.add('network', 'interface', section);
				uci.set('network', section, 'proto', 'openvpn');
				uci.set('network', section, 'config', path);

				if (login)
					uci.set('network', section, 'auth_user_pass', auth);

				return uci.save();
			})
			.then(() => ui.changes.apply(true))
			.catch(error => this.refuse(error.message));
	}
});
