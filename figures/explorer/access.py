"""Makes the page's controls usable without a mouse and without sight.

Bokeh draws sliders whose handles have neither a name nor the value that is shown, number fields
whose arrows have no name, and plots that say nothing. A script in the browser adds what is missing.
"""

from typing import Any

from bokeh.models import CustomJS

# What a part of the page is, by the class of its element.
ROLES: dict[str, dict[str, str]] = {
    "said": {"role": "status"},
    "trouble": {"role": "alert"},
    "policies": {"role": "group", "aria-label": "policies"},
    "errors": {
        "role": "img",
        "aria-label": "Plot of the error against the kept fraction; a table with its best points "
        "follows.",
    },
    "margins": {
        "role": "img",
        "aria-label": "Histogram of the margins of what is kept, beside those of all examples.",
    },
}
# Colours with a contrast of 3 and more to white.
SLIDER = """
.noUi-handle { background: #0072B2; border-color: #0072B2; box-shadow: none; }
.noUi-target { border-color: #8C8C8C; box-shadow: none; }
.noUi-target[disabled] .noUi-handle { background: #8C8C8C; border-color: #8C8C8C; }
"""
# The arrows beside each other: one above the other they are too small to be hit.
NUMBER = """
.bk-input-group > .bk-spin-wrapper input { padding-right: 50px; outline-offset: -3px !important; }
.bk-input-group > .bk-spin-wrapper > .bk-spin-btn { height: 100%; width: 24px; top: 0; }
.bk-input-group > .bk-spin-wrapper > .bk-spin-btn.bk-spin-btn-down { right: 24px; }
"""
ALERT = ":host(.alert-warning) { color: #5C4600; overflow-wrap: anywhere; }"
SCRIPT = """
// A ring around what has the focus; a page's own style does not reach into its parts.
const ring = new CSSStyleSheet();
ring.replaceSync(':focus-visible { outline: 3px solid #D55E00 !important; outline-offset: 2px }');

function* elements(root) {
  for (const one of root.querySelectorAll('*')) {
    yield one;
    if (one.shadowRoot) yield* elements(one.shadowRoot);
  }
}
const words = (root) => [...root.children].filter((one) => !/STYLE|LINK/.test(one.tagName))
  .map((one) => one.textContent).join('').trim();

// The title of a slider is its own, "name: value", or the text before it.
function name_slider(handle) {
  const root = handle.getRootNode();
  const own = root.querySelector('.bk-slider-title');
  const before = root.host.previousElementSibling;
  const title = own.textContent || !before ? own : before.shadowRoot;
  const track = handle.closest('.noUi-target');
  const tell = () => {
    const text = title === own ? own.textContent.trim() : words(title);
    const cut = text.lastIndexOf(':');
    const told = {
      'aria-label': text.slice(0, cut),
      'aria-valuetext': text.slice(cut + 1).trim(),
      'aria-disabled': String(track.hasAttribute('disabled')),
    };
    for (const [name, value] of Object.entries(told))
      if (handle.getAttribute(name) !== value) handle.setAttribute(name, value);
  };
  const watch = new MutationObserver(tell);
  watch.observe(title, {subtree: true, childList: true, characterData: true});
  watch.observe(handle, {attributeFilter: ['aria-valuetext']});
  watch.observe(track, {attributeFilter: ['disabled']});
  tell();
}

// The arrow keys do what these buttons do.
function name_arrow(button) {
  const label = button.getRootNode().querySelector('label').textContent.trim();
  const up = button.classList.contains('bk-spin-btn-up');
  button.setAttribute('aria-label', `${up ? 'raise' : 'lower'} ${label}`);
  button.tabIndex = -1;
}

for (const one of elements(document)) {
  if (one.shadowRoot) one.shadowRoot.adoptedStyleSheets.push(ring);
  if (one.classList.contains('noUi-handle')) name_slider(one);
  if (one.classList.contains('bk-spin-btn')) name_arrow(one);
  if (one.classList.contains('bk-events')) one.tabIndex = -1;  // a plot takes no keys
  for (const [name, attributes] of Object.entries(roles))
    if (one.classList.contains(name))
      for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
}
"""


def add_names(document: Any) -> None:
    """Add the script that names the controls of a drawn page."""
    document.js_on_event("document_ready", CustomJS(args={"roles": ROLES}, code=SCRIPT))
