// SPDX-License-Identifier: GPL-2.0-or-later
//! Interfaces are started and stopped: for netifd's handler by `up` and `down`, for users by `start` and `stop`.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Daemon, NETIFD};
use crate::api::{self, Args, Refusal};
use crate::config::Config;

impl Daemon {
    /// Starts an interface, after another look at the configuration.
    pub(super) fn up(&mut self, args: Args<'_>, now: Instant) -> Result<Value, Refusal> {
        let name = args.needed("interface")?;
        let dir = &self.options.config_dir;
        let config = Config::load(dir, &self.overlay, self.options.netifd);
        let known = self.engine.interfaces.get(name);
        let running = known.is_some_and(|managed| managed.state.is_some());
        match config.faults_of(name) {
            None => {
                self.configure(config);
                return Err(api::unknown(name));
            }
            // One that runs goes on as it was; one that is down does not come up as it was once.
            Some(Err(faults)) if !running => {
                let faults = faults.to_vec();
                self.configure(config);
                return Err(api::faulty(faults));
            }
            Some(_) => {}
        }
        let kept = self.switches.set(name, None);
        kept.map_err(|error| api::not_kept(&error))?;
        self.configure(config);
        api::offer(name, self.engine.start(name, now))
    }

    /// Takes an interface down, and lets go of one that is not configured any more.
    pub(super) fn down(&mut self, args: Args<'_>, now: Instant) -> Result<Value, Refusal> {
        let name = args.needed("interface")?;
        let reason = args
            .text("reason")?
            .unwrap_or("it was taken down by a call");
        let kept = self.switches.set(name, Some(reason));
        kept.map_err(|error| api::not_kept(&error))?;
        self.engine.stop(name, reason.to_owned(), now);
        self.reload();
        if !self.engine.has(name) {
            let gone = self.switches.forget(name);
            gone.map_err(|error| api::not_kept(&error))?;
        }
        Ok(json!({ "ok": true }))
    }

    /// Has an interface that is configured here started or stopped for a user: netifd does it where it is, and calls `up` or
    /// `down` then.
    pub(super) fn switch(
        &mut self,
        args: Args<'_>,
        on: bool,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let name = args.needed("interface")?;
        let config = Config::load(&self.options.config_dir, &self.overlay, self.options.netifd);
        if config.faults_of(name).is_none() {
            return Err(api::unknown(name));
        }
        if !self.options.netifd {
            return match on {
                true => self.up(args, now).map(|_| json!({ "ok": true })),
                false => self.down(args, now),
            };
        }
        if let Some(bus) = &mut self.bus {
            let method = if on { "up" } else { "down" };
            bus.call(NETIFD, method, json!({ "interface": name }), now);
        }
        Ok(json!({ "ok": true }))
    }
}
