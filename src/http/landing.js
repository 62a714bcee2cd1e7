"use strict";
{
  const main = document.querySelector("main");
  let renewed = Date.now();
  const renew = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("?main", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const html = await answer.text();
      // Whoever is copying a number keeps what is marked.
      if (getSelection().isCollapsed) main.innerHTML = html;
      renewed = Date.now();
    } catch {
      // The next one may come through.
    }
    document.body.classList.toggle("old", Date.now() - renewed > 15000);
  };
  setInterval(renew, 5000);
  document.addEventListener("visibilitychange", renew);
}
