// The containment form in a dialog. Without this script the same link opens the same form as a page.
(function () {
  'use strict';
  var dialog = document.getElementById('dialog');
  if (!dialog || !window.htmx) { return; }
  var opener = null;

  document.body.addEventListener('htmx:beforeRequest', function (event) {
    if (event.detail.target === dialog) { opener = event.detail.elt; }
  });
  document.body.addEventListener('htmx:afterSwap', function () {
    var heading = dialog.querySelector('#dlg-t');
    if (!heading) { return; }
    if (!dialog.open) { dialog.showModal(); }
    heading.focus();
  });
  // A form that cannot be fetched is opened as a page: containment never waits for a script.
  ['htmx:sendError', 'htmx:responseError', 'htmx:timeout'].forEach(function (name) {
    document.body.addEventListener(name, function (event) {
      if (event.detail.target === dialog && event.detail.elt.href) { location.assign(event.detail.elt.href); return; }
      var said = dialog.querySelector('[data-unsent]');
      if (said) { said.hidden = false; said.focus(); }
    });
  });

  function beside(el, event) {
    var box = el.getBoundingClientRect();
    return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
  }

  document.addEventListener('click', function (event) {
    var close = event.target.closest('[data-close-dialog]'), open = event.target.closest('dialog[open]');
    if (close && open) { event.preventDefault(); open.close(); return; }
    // Beside the dialog, not in it: a press that slips from a button to its margin closes nothing.
    if (event.target.tagName === 'DIALOG' && event.target.open && beside(event.target, event)) { event.target.close(); }
  });
  dialog.addEventListener('close', function () {
    dialog.replaceChildren();
    if (opener) {
      var again = opener.isConnected ? opener : document.querySelector(
        '[data-action="' + opener.dataset.action + '"][data-rollout="' + opener.dataset.rollout + '"]');
      if (again && again.offsetParent === null) { again = again.closest('details') && again.closest('details').querySelector('summary'); }
      if (again) { again.focus(); }
      opener = null;
    }
    document.dispatchEvent(new CustomEvent('console:refresh'));
  });
}());
