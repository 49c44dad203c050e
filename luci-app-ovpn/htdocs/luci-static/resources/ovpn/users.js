// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require dom';
'require form';
'require uci';
'require ui';
'require ovpn.api as api';
'require ovpn.validate as validate';

/* Users with passwords of an interface that is an OpenVPN server. A password goes to the router when the dialog is saved, which keeps a
   hash of it. */

/* Where ovpnd keeps the files that it changes. */
const DIR = '/etc/ovpn/';
/* Options that mean nothing without users. */
const NEED_USERS = [ 'auth_user_pass_optional', 'username_as_common_name', 'auth_gen_token', 'verify_client_cert' ];

/* The name of a file of ovpnd's; null for one elsewhere. */
function own(path) {
	return String(path ?? '').match(/^\/etc\/ovpn\/([^/]+)$/)?.[1] ?? null;
}

/* The list of users, with what Save will do to it. */
const Users = form.DummyValue.extend({
	cfgvalue(section_id) {
		const file = uci.get('network', section_id, 'user_file');

		/* name to the password that Save brings, null for one who goes, true for one who stays. */
		this.users = new Map();
		this.list = E('ul', { 'class': 'ovpn-users', 'aria-label': _('Users') });
		this.said = E('div', { 'class': 'ovpn-said', 'role': 'status' });
		this.name = new ui.Textfield('', { id: 'ovpn-user-name', validate: value => !value || validate.user(value) });
		this.password = new ui.Textfield('', { id: 'ovpn-user-password', password: true, validate: value => !value || validate.password(value) });

		const field = (title, one) => {
			const node = one.render();

			node.querySelector('input').setAttribute('autocomplete', 'off');

			return E('div', { 'class': 'ovpn-row' }, [ E('label', { 'for': 'widget.%s'.format(one.options.id) }, [ title ]), node ]);
		};
		const root = E('div', { 'class': 'ovpn-keys' }, [
			this.list,
			field(_('Name'), this.name),
			field(_('Password'), this.password),
			E('div', { 'class': 'ovpn-row' }, [
				E('button', {
					'class': 'btn cbi-button cbi-button-add ovpn-user-add', 'disabled': !L.hasViewPermission() || null,
					'click': (ev) => { ev.preventDefault(); this.add(section_id); }
				}, [ _('Add user') ])
			]),
			this.said
		]);

		this.show();

		if (own(file))
			api.userList(own(file)).then(names => {
				names.forEach(name => this.users.has(name) || this.users.set(name, true));
				this.show();
			}).catch(error => this.say(error.message, true));
		else if (file)
			this.say(_('The users of a file outside of %s are not changed here.').format(DIR));

		return root;
	},

	say(words, wrong) {
		dom.content(this.said, E('span', { 'class': wrong ? 'ovpn-error' : '' }, [ words ]));
	},

	show() {
		const names = [ ...this.users.keys() ].sort();
		const state = (password) => password === true ? '' : password === null ? _('Save removes it') : _('Save writes its password');

		dom.content(this.list, names.length ? names.map(name => E('li', { 'data-user': name }, [
			E('span', [ name ]), ' ', E('em', { 'class': 'ovpn-small' }, [ state(this.users.get(name)) ]), ' ',
			E('button', {
				'class': 'btn cbi-button cbi-button-negative ovpn-user-remove', 'disabled': !L.hasViewPermission() || null,
				'aria-label': this.users.get(name) === null ? _('Keep %s').format(name) : _('Remove %s').format(name),
				'click': (ev) => { ev.preventDefault(); this.toggle(name); }
			}, [ this.users.get(name) === null ? _('Keep') : _('Remove') ])
		])) : E('li', [ E('em', [ _('No users.') ]) ]));
	},

	/* Takes a user out, or back in. */
	toggle(name) {
		const state = this.users.get(name);

		if (state === true)
			this.users.set(name, null);
		else if (state === null)
			this.users.set(name, true);
		else
			this.users.delete(name);

		this.show();
	},

	add(section_id) {
		const [ name, password ] = [ this.name.getValue(), this.password.getValue() ];
		const wrong = [ validate.user(name), validate.password(password) ].find(valid => valid !== true);

		if (wrong)
			return this.say(wrong, true);

		this.users.set(name, password);
		[ this.name, this.password ].forEach(one => one.setValue(''));
		this.say(_('Save gives %s this password.').format(name));
		this.show();

		const file = this.section.getUIElement(section_id, 'user_file');

		if (file && !file.getValue()) {
			file.setValue('%s%s.users'.format(DIR, section_id));
			file.triggerValidation();
		}
	},

	/* New ones first: the last user of a file cannot go. */
	parse(section_id) {
		const changes = [ ...this.users ?? [] ].filter(([ , state ]) => state !== true).sort(([ , a ], [ , b ]) => (a === null) - (b === null));

		if (!changes.length || this.section.formvalue(section_id, '_kind') != 'server')
			return Promise.resolve();

		const path = this.section.formvalue(section_id, 'user_file');
		const file = own(path);

		if (!file)
			return Promise.reject(new Error(_('The users of a file outside of %s are not changed here.').format(DIR)));

		return changes.reduce((before, [ name, password ]) => before.then(() => password === null
			? api.userDel(file, name).then(() => this.users.delete(name))
			: api.userSet(file, name, password).then(() => this.users.set(name, true))), Promise.resolve())
			.then(() => { this.show(); this.say(_('Written to %s.').format(path)); })
			.catch(error => {
				this.show();
				this.say(error.message, true);
				throw error;
			});
	},

	write() {},
	remove() {}
});

return baseclass.extend({
	own,

	/* Adds a tab with them to the section `s` of the dialog. `isServer` binds an option to servers. */
	options(s, isServer) {
		const add = (Type, name, ...words) => {
			const o = s.taboption('users', Type, name, ...words);

			isServer(o);

			return o;
		};
		let o;

		s.tab('users', _('Users'));
		add(Users, '_users', _('Users'));

		o = add(form.Value, 'user_file', _('File of the users'),
			_('Names and hashes of passwords. With it each client needs a user and a password; without it, a certificate alone.'));
		o.placeholder = '%s%s.users'.format(DIR, s.section);
		o.validate = function(section_id, value) {
			const set = NEED_USERS.find(name => ![ '', '0', null, undefined ].includes(this.section.formvalue(section_id, name))
				|| name == 'auth_gen_token' && this.section.formvalue(section_id, name) === '0');

			return !value && set ? _('This is needed: another field of this tab is for users with passwords.') : validate.path(value);
		};

		o = add(form.ListValue, 'verify_client_cert', _('A client’s certificate'));
		o.value('', _('is needed'));
		o.value('optional', _('may be missing'));
		o.value('none', _('is not asked for'));
		o.validate = function(section_id, value) {
			return value && this.section.formvalue(section_id, 'auth_user_pass_optional') == '1'
				? _('With optional passwords a certificate is needed: a client would need neither.') : true;
		};

		add(form.Flag, 'auth_user_pass_optional', _('Passwords are optional'),
			_('A client with a certificate may come without a user.'));
		add(form.Flag, 'username_as_common_name', _('Clients are called by their user'),
			_('Not by the name of their certificate.'));

		o = add(form.Value, 'auth_gen_token', _('A token stands for the password'),
			_('For so many seconds after a login the client needs no password to connect again; 0 is for ever. Empty: no token.'));
		o.validate = (section_id, value) => validate.token(value);
	}
});
