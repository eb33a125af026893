// The search page. Texts are set as text. HTML comes from the server alone, which has escaped what is in it, and the
// browser runs no script but the two files of this page (Content-Security-Policy).
(() => {
  "use strict";
  const IMAGE = "application/x-itmatch-image"; // what the picture of a result carries when it is dragged
  const find = (id) => document.getElementById(id);
  let about = null;
  let turn = 0; // of the last question; answers to earlier ones come too late
  let sent = null; // address of the picture that was sent last

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // The explanation that the server has made; its picture may be one that only this page has.
  function explained(html, picture = null) {
    const made = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    for (const box of made.querySelectorAll("[tabindex]")) {
      box.removeAttribute("tabindex"); // the keyboard reaches the words, which are fewer
    }
    const image = made.querySelector("img");
    if (image && picture) {
      image.src = picture;
    }
    return made;
  }

  async function ask(address, options) {
    const answer = await fetch(address, options);
    const content = await answer.json();
    if (!answer.ok) {
      throw new Error(content.error);
    }
    return content;
  }

  function tell(text, isError = false) {
    find("status").textContent = text;
    find("status").classList.toggle("error", isError);
  }

  function clear() {
    find("hits").replaceChildren();
    find("words").hidden = true;
  }

  // What is told of words that say nothing to the model.
  function unknown(answer) {
    if (!answer.unknown?.length) {
      return "";
    }
    const words = answer.unknown.map((word) => `“${word}”`).join(", ");
    return `. Not in the vocabulary: ${words}.${answer.chance ? " No word is, so what is found is chance." : ""}`;
  }

  // Ask something, and show the answer unless something else was asked meanwhile.
  async function run(question, show, about) {
    const mine = ++turn;
    tell("Searching ...");
    find("hits").setAttribute("aria-busy", "true");
    try {
      const answer = await question();
      if (mine === turn) {
        clear();
        const what = answer.kind === "images" ? "image" : "caption";
        const count = `${answer.hits.length} ${what}${answer.hits.length === 1 ? "" : "s"}`;
        tell(`${count} for ${about}, best first${unknown(answer)}`);
        find("hits").classList.toggle("captions", answer.kind === "captions");
        find("hits").append(...answer.hits.map((hit) => show(hit, mine, answer)));
        scrollTo(0, 0);
      }
    } catch (error) {
      if (mine === turn) {
        clear();
        tell(error instanceof TypeError ? "The server does not answer." : error.message, true);
      }
    }
    find("hits").removeAttribute("aria-busy");
  }

  function searchText(text, keep = true) {
    find("query").value = text;
    const options = new URLSearchParams({ q: text, top: find("top").value });
    if (keep) {
      history.pushState(null, "", `/?${options}`);
    }
    run(() => ask(`/search?${options}`), (hit, mine) => imageCard(hit, text, mine), `“${text}”`);
  }

  function searchImage(image, name) {
    const options = new URLSearchParams({ image, top: find("top").value });
    run(() => ask(`/search?${options}`), (hit, mine, answer) => {
      const made = card(hit, element("p", { textContent: hit.text }), answer.picture);
      explain(made, hit.text, image, mine);
      return made;
    }, name);
  }

  function searchFile(file) {
    if (file.size > about.largest_upload) {
      turn++;
      clear();
      tell(`${file.name}: larger than ${Math.floor(about.largest_upload / 2 ** 20)} MiB`, true);
      return;
    }
    URL.revokeObjectURL(sent);
    sent = URL.createObjectURL(file);
    const options = new URLSearchParams({ top: find("top").value });
    const question = () => ask(`/search?${options}`, { method: "POST", body: file });
    run(question, (hit) => card(hit, explained(hit.html, sent)), file.name);
  }

  // An image that fits a text.
  function imageCard(hit, text, mine) {
    const made = card(hit, hit.id, hit.picture);
    made.draggable = true;
    made.addEventListener("dragstart", (event) => event.dataTransfer.setData(IMAGE, JSON.stringify([hit.number, hit.id])));
    if (about.captions > 0) {
      const button = element("button", { type: "button", textContent: "Captions of this picture" });
      button.addEventListener("click", () => searchImage(hit.number, hit.id));
      made.append(element("p", {}, button));
    }
    explain(made, text, hit.number, mine, true);
    return made;
  }

  function card(hit, content, picture = null) {
    const score = element("span", { className: "score", textContent: ` ${hit.score.toFixed(3)}` });
    const label = element("p", {}, element("strong", { textContent: `${hit.rank}. ` }));
    const made = element("li", { className: "card" }, label);
    if (picture) {
      const image = element("img", { src: picture, alt: "" });
      made.prepend(element("div", { className: "itm-explain" }, element("div", { className: "itm-picture" }, image)));
    }
    if (typeof content === "string") {
      label.append(content, score);
    } else {
      label.append(score);
      made.append(content);
    }
    return made;
  }

  // Put the explanation in the place of the bare picture, or of the bare caption.
  async function explain(made, text, image, mine, withWords = false) {
    const answer = await ask(`/explain?${new URLSearchParams({ q: text, image })}`).catch(() => null);
    if (mine !== turn || !answer) {
      return; // the result is good without it
    }
    const found = explained(answer.html);
    made.querySelector(":scope > .itm-explain")?.remove();
    if (withWords) {
      made.prepend(found);
      showWords(answer.words);
    } else {
      made.querySelector(":scope > p:not(:first-child)").replaceWith(found);
    }
    if (about.reads_relations) {
      found.append(relationsButton(text, image));
    }
  }

  // What each relation of the image adds to the score: computed when somebody asks for it, and shown in its place.
  function relationsButton(text, image) {
    const button = element("button", { type: "button", textContent: "What each relation adds" });
    const holder = element("p", {}, button);
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = "Leaving out each relation ...";
      try {
        const answer = await ask(`/relations?${new URLSearchParams({ q: text, image })}`);
        const found = explained(answer.html);
        holder.replaceWith(found);
        found.focus({ preventScroll: true });
      } catch (error) {
        const told = error instanceof TypeError ? "The server does not answer." : error.message;
        holder.replaceWith(element("p", { className: "itm-note", textContent: told, role: "status" }));
      }
    });
    return holder;
  }

  // The words of the query: each lights up the regions of all images at once.
  function showWords(words) {
    if (!find("words").hidden || words.length === 0) {
      return;
    }
    const buttons = words.map((word, place) => {
      const button = element("button", { type: "button", textContent: word });
      const light = (kind) => () => {
        button.classList.toggle("on", kind !== "mouseout");
        for (const chip of find("hits").querySelectorAll(`.itm-words [data-column="${place}"]`)) {
          chip.dispatchEvent(new MouseEvent(kind, { bubbles: true }));
        }
      };
      for (const event of ["mouseenter", "focus", "click"]) {
        button.addEventListener(event, light("mouseover"));
      }
      for (const event of ["mouseleave", "blur"]) {
        button.addEventListener(event, light("mouseout"));
      }
      return button;
    });
    find("words").replaceChildren("Point at a word: ", ...buttons);
    find("words").hidden = false;
  }

  function takeDrop(event) {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const image = event.dataTransfer.getData(IMAGE);
    if (image) {
      searchImage(...JSON.parse(image));
    } else if (event.dataTransfer.files.length) {
      searchFile(event.dataTransfer.files[0]);
    }
  }

  function readAddress() {
    const options = new URLSearchParams(location.search);
    if ([...find("top").options].some((option) => option.value === options.get("top"))) {
      find("top").value = options.get("top");
    }
    if (options.get("q")) {
      searchText(options.get("q"), false);
    } else {
      turn++;
      clear();
      tell("");
    }
  }

  async function start() {
    about = await ask("/about");
    find("about").textContent = `${about.name}: ${about.images} images, ${about.captions} captions`;
    find("query").maxLength = about.longest_query;
    find("file").accept = about.takes_photos ? "image/*" : ".npy";
    find("drop").hidden = about.captions === 0;
    document.querySelector("#drop label").textContent = about.takes_photos
      ? "Drop a picture here to find its captions, or choose one:"
      : "This model takes features of regions, not photos. Drop a result here to find its captions, or a .npy file " +
        `(regions, ${about.features ?? "features"}):`;
    for (const text of about.examples) {
      const button = element("button", { type: "button", textContent: text });
      button.addEventListener("click", () => searchText(text));
      find("examples").append(button);
    }
    find("examples").hidden = about.examples.length === 0;
    find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      searchText(find("query").value);
    });
    find("top").addEventListener("change", () => find("query").value.trim() && searchText(find("query").value));
    find("file").addEventListener("change", (event) => event.target.files.length && searchFile(event.target.files[0]));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dragging");
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dragging"));
    document.addEventListener("drop", takeDrop);
    addEventListener("popstate", readAddress);
    readAddress();
  }

  start().catch(() => tell("The server does not answer.", true));
})();
