// What the pages gain with scripts; nothing here is needed to read, filter, cancel or download.

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("[data-theme-toggle]");
  if (toggle) {
    const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A log follows its end while the reader is at the end, and stays where the reader has scrolled to otherwise.
function isAtEnd(log) {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const { target, fragment } = event.detail;
  const log = target.closest(".log");
  if (log) log.dataset.follows = isAtEnd(log);
  // What the reader has unfolded stays so.
  for (const fold of target.querySelectorAll("details[id][open]")) fragment.querySelector(`#${fold.id}`)?.setAttribute("open", "");
});
document.addEventListener("htmx:oobAfterSwap", (event) => {
  const log = document.querySelector('.log[data-follows="true"]');
  if (log) log.scrollTop = log.scrollHeight;
});

// Who was signed out meanwhile gets the sign-in page, not a piece of it in the middle of this one.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, pathInfo } = event.detail;
  if (new URL(xhr.responseURL).pathname !== new URL(pathInfo.finalRequestPath, location).pathname) {
    event.detail.shouldSwap = false;
    location.reload();
  }
});

for (const log of document.querySelectorAll(".log-end")) log.scrollTop = log.scrollHeight;
for (const button of document.querySelectorAll("[data-theme-toggle]")) button.hidden = false;

// A passkey that was not used, for whatever reason, is said in words beside the button.
document.addEventListener("allauth.error", (event) => {
  const trouble = document.querySelector("[data-passkey-trouble]");
  if (trouble) {
    event.preventDefault();
    trouble.hidden = false;
  }
});
