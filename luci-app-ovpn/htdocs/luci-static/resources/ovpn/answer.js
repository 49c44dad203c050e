// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require dom';
'require ui';
'require ovpn.api as api';

/* The dialog with a tunnel's question to its user: the server's, or that of the configuration. The answer goes to ovpnd, which keeps it
   in memory, and is nowhere else. */

function needed(value) {
	return value ? true : _('This is needed.');
}

return baseclass.extend({
	/* `peer` asks; `done` is called once ovpnd has the answer. */
	ask(peer, done) {
		const { text, echo, user } = peer.question;
		const name = new ui.Textfield('', { id: 'ovpn-answer-user', optional: false, validate: needed });
		const answer = new ui.Textfield('', { id: 'ovpn-answer-text', optional: false, password: !echo, validate: needed });
		const failed = E('div', { 'class': 'ovpn-error', 'id': 'ovpn-answer-failed', 'role': 'alert' }, [ peer.error ?? '' ]);
		const fields = user ? [ name, answer ] : [ answer ];
		const row = (title, field) => {
			const node = field.render();

			node.querySelector('input').setAttribute('autocomplete', 'off');

			return E('div', { 'class': 'cbi-value' }, [
				E('label', { 'class': 'cbi-value-title', 'for': 'widget.%s'.format(field.options.id) }, [ title ]),
				E('div', { 'class': 'cbi-value-field' }, [ node ])
			]);
		};
		const send = () => {
			fields.forEach(field => field.triggerValidation());

			if (!fields.every(field => field.isValid()))
				return Promise.resolve();

			return api.answer(peer.interface, answer.getValue(), user ? name.getValue() : null).then(() => {
				answer.setValue('');
				ui.hideModal();

				return done();
			}).catch(error => dom.content(failed, [ error.message ]));
		};
		const button = E('button', {
			'class': 'btn cbi-button cbi-button-positive important', 'id': 'ovpn-answer-send', 'click': ui.createHandlerFn(this, send)
		}, [ _('Send') ]);

		/* LuCI takes a title for HTML. */
		const dialog = ui.showModal(_('Question of %h').format(peer.interface), [
			E('p', { 'id': 'ovpn-answer-question' }, [ text ]),
			failed,
			user ? row(_('User'), name) : '',
			row(user ? _('Password') : _('Answer'), answer),
			E('p', { 'class': 'cbi-value-description' }, [ _('It is sent to the server and not kept on this router.') ]),
			E('div', { 'class': 'right button-row' }, [
				E('button', { 'class': 'btn cbi-button', 'click': ui.hideModal }, [ _('Dismiss') ]), ' ',
				button
			])
		]);

		dialog.querySelectorAll('.cbi-value input').forEach(input => {
			input.setAttribute('aria-describedby', 'ovpn-answer-question');
			input.addEventListener('keydown', (ev) => {
				if (ev.key == 'Enter') {
					ev.preventDefault();
					button.click();
				}
			});
		});
		dialog.querySelector('.cbi-value input').focus();
	}
});
