// Keeps a scrolling element at its end while its content grows, unless the user has scrolled up.

const NEAR_END_PX = 80;

/** `toNewest`: a button that goes to the end. It is shown while the end is far away. */
export function createFollower(scroll, toNewest) {
  let following = true;
  let lastTop = 0;

  const toEnd = () => {
    if (following) scroll.scrollTop = scroll.scrollHeight;
    toNewest.hidden = following || fromEnd() < NEAR_END_PX;
  };
  const fromEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  // The content grows. The view shrinks when a phone shows its keyboard.
  const sizes = new ResizeObserver(toEnd);

  scroll.addEventListener("scroll", () => {
    // Stop following only if the user scrolls up. The distance also grows with the content.
    if (fromEnd() < NEAR_END_PX) following = true;
    else if (scroll.scrollTop < lastTop) following = false;
    lastTop = scroll.scrollTop;
    toNewest.hidden = following;
  });
  toNewest.addEventListener("click", () => {
    scroll.focus({ preventScroll: true }); // the focused button disappears
    following = true;
    toEnd();
  });

  return {
    /** Shows `content` and follows it. */
    watch(content) {
      scroll.replaceChildren(content);
      sizes.disconnect();
      sizes.observe(scroll);
      sizes.observe(content);
      this.follow();
    },
    follow() {
      following = true;
      toEnd();
    },
    /** Calls `change`, which adds content at the top. The visible content does not move. */
    hold(change) {
      const belowTop = scroll.scrollHeight - scroll.scrollTop;
      change();
      if (!following) scroll.scrollTop = scroll.scrollHeight - belowTop;
    },
  };
}
