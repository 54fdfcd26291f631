// Buttons that copy a snippet. Without this script, or without a clipboard, one selects the text.
(function () {
  'use strict';
  if (!navigator.clipboard) { return; }
  document.querySelectorAll('[data-copy]').forEach(function (button) {
    button.hidden = false;
    button.addEventListener('click', function () {
      var from = document.getElementById(button.dataset.copy), said = button.querySelector('[data-said]');
      navigator.clipboard.writeText(from.textContent).then(
        function () { said.textContent = 'Copied'; },
        function () { said.textContent = 'Select it and copy'; getSelection().selectAllChildren(from); }
      );
    });
  });
}());
