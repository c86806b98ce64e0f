// Keeps a scrolling element at its end while its content grows, unless the user has scrolled up.

const NEAR_END_PX = 80;

export function createFollower(scroll) {
  let following = true;
  let lastTop = 0;

  const toEnd = () => following && (scroll.scrollTop = scroll.scrollHeight);
  // The content grows. The view shrinks when a phone shows its keyboard.
  const sizes = new ResizeObserver(toEnd);

  scroll.addEventListener("scroll", () => {
    const fromEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
    // Stop following only if the user scrolls up. The distance also grows with the content.
    if (fromEnd < NEAR_END_PX) following = true;
    else if (scroll.scrollTop < lastTop) following = false;
    lastTop = scroll.scrollTop;
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
