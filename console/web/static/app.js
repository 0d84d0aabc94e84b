// What pages cannot do without a script: menus, dialogs, copying, dropping files, and signing in again without losing
// what was typed. htmx does the rest. Nothing is evaluated, nothing is loaded from elsewhere.
"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // A session that ended: sign in on top of the page, which stays as it is. Then the same change can be sent again.
  document.addEventListener("htmx:beforeSwap", event => {
    const { xhr } = event.detail;
    if (xhr.status === 401 && xhr.getResponseHeader("X-Sign-In")) {
      event.detail.shouldSwap = false;
      htmx.ajax("GET", "/sign-in/again", { target: "#dialog", swap: "innerHTML" }).then(() => open(one("#dialog")));
    }
  });
  document.addEventListener("signed-in", event => {
    document.body.setAttribute("hx-headers", JSON.stringify({ "X-CSRF-Token": event.detail.csrf }));
    one("#dialog")?.close();
  });
  document.addEventListener("htmx:sendError", () => say("The console cannot be reached. Nothing was changed."));

  const say = text => {
    const notice = document.createElement("div");
    notice.className = "notice problem";
    notice.setAttribute("role", "alert");
    notice.append(Object.assign(document.createElement("p"), { textContent: text }));
    one("#notices")?.replaceChildren(notice);
  };
  const open = dialog => { if (dialog && !dialog.open) dialog.showModal(); };

  document.addEventListener("htmx:afterSwap", event => {
    const dialog = event.target.closest?.("dialog");
    if (dialog && event.target.textContent.trim()) open(dialog);
    if (event.target.id === "dialog" || event.target.id === "panel") one("[autofocus]", event.target)?.focus();
    const who = one("#again-name", event.target);
    if (who && !who.value) {
      who.value = one(".foot a").textContent;
      who.autofocus = false;
      one("#again-password").autofocus = true;
      one("#again-password").focus();
    }
    // Behind a dialog nobody sees what is said above the page.
    const above = all("dialog[open]").at(-1);
    if (event.target.id === "notices" && above) { above.prepend(...event.target.children); above.scrollTop = 0; }
  });
  document.addEventListener("close-dialog", () => all("dialog[open]").forEach(each => each.close()));

  document.addEventListener("click", event => {
    const target = event.target.closest("[data-copy], [data-open], [data-close], [data-dismiss], [data-menu], [data-theme-to], [data-all]");
    if (!target) {
      all("details.menu-of[open]").forEach(each => { if (!each.contains(event.target)) each.open = false; });
      return;
    }
    const { copy, open: opens, themeTo } = target.dataset;
    if (copy !== undefined) {
      const source = copy ? one(copy) : target;
      navigator.clipboard.writeText(source.value ?? source.textContent.trim()).then(() => {
        const said = target.textContent;
        target.textContent = "Copied";
        setTimeout(() => { target.textContent = said; }, 1500);
      });
    }
    if (opens) open(one(opens));
    if ("close" in target.dataset) target.closest("dialog")?.close();
    if ("dismiss" in target.dataset) target.closest(".notice")?.remove();
    if ("menu" in target.dataset) {
      const shown = one(".side").classList.toggle("open");
      target.setAttribute("aria-expanded", String(shown));
    }
    if (themeTo !== undefined) {
      document.cookie = `theme=${themeTo}; path=/; max-age=31536000; secure; samesite=lax`;
      if (themeTo) document.documentElement.dataset.theme = themeTo;
      else delete document.documentElement.dataset.theme;
      all("[data-theme-to]").forEach(each => each.setAttribute("aria-pressed", String(each === target)));
    }
  });
  document.addEventListener("keydown", event => {
    // In a box of a table it would send the form, which downloads.
    if (event.key === "Enter" && event.target.matches("[data-several] input[type=checkbox]")) event.preventDefault();
    if (event.key === "Escape") all("details.menu-of[open]").forEach(each => { each.open = false; one("summary", each).focus(); });
  });

  // A box in the head of a table ticks all of its rows; what acts on several is there once one is ticked.
  document.addEventListener("change", event => {
    const box = event.target;
    const form = box.closest?.("[data-several]");
    if (!form) return;
    if ("tickAll" in box.dataset) all("input[name=names]", form).forEach(each => { each.checked = box.checked; });
    const ticked = all("input[name=names]:checked", form).length;
    all("[data-with-several]", form).forEach(each => { each.hidden = ticked === 0; });
    all("[data-count]", form).forEach(each => { each.textContent = String(ticked); });
  });

  // A secret that was wrong is typed anew; the rest of its form stays as it was.
  document.addEventListener("htmx:afterSwap", event => {
    const wrong = one("[data-anew]", event.target);
    const field = wrong && event.target.closest("form")?.elements[wrong.dataset.anew];
    if (field) { field.value = ""; field.focus(); }
  });

  // A table that grows keeps its newest rows.
  document.addEventListener("htmx:sseMessage", event => {
    const body = event.target.closest?.("[data-most]");
    while (body && body.rows.length > Number(body.dataset.most)) body.rows[body.rows.length - 1].remove();
  });

  // What is shown once can be kept: as a file, or on paper.
  document.addEventListener("click", event => {
    const target = event.target.closest("[data-download], [data-print]");
    if (!target) return;
    if ("print" in target.dataset) return window.print();
    const file = new Blob([one(target.dataset.download).textContent], { type: "text/plain" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: target.dataset.as });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // Of several files one is left out again; what was pasted becomes one of them; what is done in a menu shuts it.
  document.addEventListener("click", event => {
    const menu = event.target.closest("details.menu-of > div > :is(a, button)")?.closest("details");
    if (menu) { menu.open = false; one("summary", menu).focus(); }  // a dialog that closes leads back to it
    const target = event.target.closest("[data-leave-out], [data-add-pasted]");
    const input = target && one("input[type=file]", target.closest("form"));
    if (!input) return;
    const files = new DataTransfer();
    [...input.files].forEach((file, place) => { if (String(place) !== target.dataset.file) files.items.add(file); });
    if ("addPasted" in target.dataset) {
      const text = one("textarea", target.parentElement);
      if (text.value.trim()) files.items.add(new File([text.value], `pasted ${input.files.length + 1}.pem`));
      text.value = "";
    }
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // What is offered beside a field is put into it.
  document.addEventListener("click", event => {
    const offered = event.target.closest("[data-put]");
    const field = offered && one(offered.dataset.put);
    if (!field) return;
    field.value = offered.value;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // Files that are dropped on a zone are its input's.
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, event => {
      const zone = event.target.closest?.(".drop");
      if (!zone) return;
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind !== "drop") return;
      const input = one("input[type=file]", zone);
      const files = new DataTransfer();
      if (input.multiple) [...input.files].forEach(file => files.items.add(file));
      [...event.dataTransfer.files].forEach(file => files.items.add(file));
      input.files = files.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
})();
