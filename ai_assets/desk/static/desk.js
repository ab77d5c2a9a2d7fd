// What makes the desk quicker for who has scripts: keys, selection, times that stay true, results that appear by
// themselves. Every page works without it.
"use strict";

(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // Times

  const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];
  const ago = (moment) => {
    const seconds = (Date.now() - moment) / 1000;
    for (const [unit, length] of UNITS) {
      if (Math.abs(seconds) >= length) {
        const span = `${Math.floor(Math.abs(seconds) / length)} ${unit}`;
        return seconds > 0 ? `${span} ago` : `in ${span}`;
      }
    }
    return seconds >= 0 ? "just now" : "in a moment";
  };
  const keepTimes = () => {
    for (const time of all("time[data-ago]")) {
      const said = ago(Date.parse(time.dateTime));
      if (time.textContent !== said) time.textContent = said;
    }
  };
  setInterval(() => { if (!document.hidden) keepTimes(); }, 30000);

  // Copying

  for (const button of all("[data-copy]")) {
    const label = button.innerHTML;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.innerHTML = label; }, 2500);
    });
  }

  // Selecting several

  const everything = one("#select-all");
  const boxes = all("input[name=choice][type=checkbox]");
  const selected = one("#selected");
  const count = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    if (selected) selected.textContent = chosen ? `With ${chosen} selected:` : "Select requests to decide on several at once.";
    for (const button of all("#bulk [data-verdict]")) button.disabled = !chosen;
    if (everything) {
      everything.checked = chosen > 0 && chosen === boxes.length;
      everything.indeterminate = chosen > 0 && chosen < boxes.length;
    }
  };
  if (everything) {
    everything.addEventListener("change", () => {
      for (const box of boxes) box.checked = everything.checked;
      count();
    });
  }
  for (const box of boxes) box.addEventListener("change", count);
  count();
  window.addEventListener("pageshow", count);

  // Filters are folded where there is little room; without scripts a person opens them

  const wide = matchMedia("(min-width: 48rem)");
  const unfold = () => {
    for (const fold of all("details.fold-filters")) {
      fold.dataset.asked ??= String(fold.open);
      fold.open = wide.matches || fold.dataset.asked === "true";
    }
  };
  unfold();
  wide.addEventListener("change", unfold);

  // A result that appears by itself

  const publication = one("#publication[data-state]");
  const follow = async () => {
    let wait = 2000;
    if (!document.hidden) {
      try {
        const answer = await fetch(publication.dataset.state, { headers: { Accept: "application/json" } });
        if (answer.status === 401 || answer.status === 404) return;
        if (!answer.ok) throw new Error(answer.statusText);
        if (tell(await answer.json())) return;
      } catch {
        wait = 6000;
      }
    }
    setTimeout(follow, wait);
  };
  const tell = ({ status, publication: found }) => {
    const said = one("[data-said]", publication);
    const over = found.state === "published" || found.state === "failed" || status !== "approved";
    const sentence = found.said;
    if (said.textContent !== sentence) said.textContent = sentence;
    const lead = one("strong", publication);
    if (over && lead) lead.textContent = found.state === "published" ? "Published. " : "Not published. ";
    publication.classList.toggle("bad", found.state === "failed");
    publication.classList.toggle("warn", found.state === "not loaded");
    publication.classList.toggle("good", !["failed", "not loaded"].includes(found.state));
    const links = one("[data-links]", publication);
    const wanted = [];
    if (found.release) wanted.push([publication.dataset.releases, `Release ${found.release}`]);
    if (found.run_url) wanted.push([found.run_url, "Publication run"]);
    if (links.dataset.shown !== JSON.stringify(wanted)) {
      links.dataset.shown = JSON.stringify(wanted);
      links.replaceChildren(...wanted.flatMap(([address, text]) => {
        const link = document.createElement("a");
        link.href = address;
        link.textContent = text;
        return [link, " "];
      }));
    }
    const chip = one("#status .chip");
    if (chip && status !== chip.textContent) {
      chip.textContent = status;
      chip.className = `chip status-${status.replace(" ", "-")}`;
    }
    return over;
  };
  if (publication) setTimeout(follow, 1000);

  // Passkeys

  const said = one("#passkey-said");
  const say = (text) => { if (said) said.textContent = text; };
  const why = (error) => error.name === "NotAllowedError" ? "The passkey was not used: cancelled, or not in time." : error.message;
  const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
  const post = async (address, body, headers) => {
    const answer = await fetch(address, { method: "POST", body, headers });
    const found = await answer.json().catch(() => ({ error: answer.statusText }));
    if (!answer.ok) throw new Error(found.error);
    return found;
  };
  const listed = (found) => (found || []).map((item) => ({ ...item, id: bytes(item.id) }));
  const sign = async (options) => {
    const allowCredentials = listed(options.allowCredentials);
    const found = await navigator.credentials.get({ publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials } });
    const { clientDataJSON, authenticatorData, signature } = found.response;
    return JSON.stringify({ id: found.id, response: {
      clientDataJSON: base64(clientDataJSON), authenticatorData: base64(authenticatorData), signature: base64(signature),
    } });
  };
  const adder = one("#passkey-add");
  if (adder && (location.hostname !== adder.dataset.site || !window.PublicKeyCredential)) {
    adder.disabled = true;
    say(window.PublicKeyCredential ? `Open the desk at ${adder.dataset.url} for that.` : "This browser has no passkeys here.");
  }
  if (adder) {
    const send = (step, body) => post(`/account/passkeys/${step}`, JSON.stringify(body), {
      "Content-Type": "application/json", "X-CSRF-Token": adder.dataset.csrf,
    });
    adder.addEventListener("click", async () => {
      adder.disabled = true;
      try {
        const { options, kept } = await send("begin", {});
        const made = await navigator.credentials.create({ publicKey: {
          ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) },
          excludeCredentials: listed(options.excludeCredentials),
        } });
        const { clientDataJSON, attestationObject } = made.response;
        const response = { id: made.id, rawId: base64(made.rawId), type: made.type, clientExtensionResults: {}, response: {
          clientDataJSON: base64(clientDataJSON), attestationObject: base64(attestationObject),
        } };
        let found = await send("add", { kept, response });
        if (found.sign) {
          say("Now sign for it with a passkey that you have already.");
          found = await send("vouch", { kept: found.kept, assertion: await sign(found.sign) });
        }
        location.reload();
      } catch (error) {
        say(why(error));
        adder.disabled = false;
      }
    });
  }
  for (const form of all("form[data-passkey]")) {
    form.addEventListener("submit", async (event) => {
      if (form.elements.assertion.value || (event.submitter && event.submitter.name === "without")) return;
      event.preventDefault();
      const button = one("button.primary", form);
      button.disabled = true;
      try {
        const asked = await post(form.dataset.passkey, new URLSearchParams(new FormData(form)), {});
        const assertion = await sign(asked.options);
        form.elements.said.value = asked.said;
        form.elements.assertion.value = assertion;
        form.submit();
      } catch (error) {
        say(why(error));
        button.disabled = false;
      }
    });
  }

  // Keys

  const rows = () => all("[data-row]").filter((row) => row.offsetParent !== null);
  const current = () => rows().findIndex((row) => row.contains(document.activeElement));
  const target = (row) => one("[data-open]", row) || one("a, button, input", row) || row;
  const move = (step) => {
    const found = rows();
    if (!found.length) return;
    const from = current();
    const to = from < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(Math.max(from + step, 0), found.length - 1);
    const goal = target(found[to]);
    if (goal === found[to]) goal.tabIndex = -1;
    goal.focus();
    found[to].scrollIntoView({ block: "nearest" });
  };
  const go = (selector) => {
    const link = one(selector);
    if (link) link.click();
  };
  const decide = (verdict) => {
    const button = all("[data-verdict]").find((found) => found.dataset.verdict === verdict && (!found.disabled || found.closest("#bulk")));
    if (!button) return;
    if (button.closest("#bulk") && !boxes.some((box) => box.checked)) {
      const box = current() < 0 ? null : one("input[name=choice]", rows()[current()]);
      if (!box) return;
      box.checked = true;
      count();
    }
    button.click();
  };
  const help = one("#keys");
  const openHelp = () => { if (help && !help.open) help.showModal(); };
  const opener = one("#keys-open");
  if (opener) opener.addEventListener("click", openHelp);

  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    o: () => { if (current() >= 0) target(rows()[current()]).click(); },
    x: () => {
      const box = current() < 0 ? null : one("input[name=choice]", rows()[current()]);
      if (box) { box.checked = !box.checked; count(); }
    },
    a: () => decide("approve"),
    r: () => decide("reject"),
    e: () => decide("send back"),
    n: () => go("a[rel=next]"),
    p: () => go("a[rel=prev]"),
    u: () => go("a[data-up]"),
    "/": () => { const field = one("#search"); if (field) { field.focus(); field.select(); } },
    "?": openHelp,
  };
  const GO = { i: "/", r: "/releases", a: "/audit", c: "/costs", s: "/runs", l: "/golden", h: "/held", e: "/evaluation" };
  const keyed = (key) => key.length === 1 ? one(`[data-key="${CSS.escape(key)}"]`) : null;
  const TYPING = "input:not([type=checkbox]), select, textarea, [contenteditable]";
  let awaited = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat && !"jk".includes(event.key)) return;
    if (event.target.closest(TYPING)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (help && help.open) return;
    const after = Date.now() < awaited;
    awaited = 0;
    if (after && GO[event.key]) {
      event.preventDefault();
      location.assign(GO[event.key]);
    } else if (event.key === "g") {
      awaited = Date.now() + 1200;
    } else if (keyed(event.key)) {
      event.preventDefault();
      keyed(event.key).click();
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });
})();
