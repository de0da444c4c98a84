"""Opening the page, and waiting until it stands still."""

from playwright.sync_api import Page


def opened(page: Page, address: str, link: str = "lang=en&theme=light") -> Page:
    """The page, ready; with reduced motion, so that the camera is where it is going."""
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{address}#{link}")
    page.wait_for_function("window.glassformer?.state.scene.value && window.glassformer.engine", timeout=60_000)
    page.evaluate("() => window.glassformer.ready")
    return page


def settled(page: Page) -> None:
    """Wait until nothing moves and no numbers are on their way."""
    page.wait_for_function(
        """() => new Promise(done => {
            const {camera, framePose, canvasSize} = glassformer.state;
            const before = JSON.stringify(camera.value);
            setTimeout(() => {
                const drawn = JSON.stringify(framePose.value) === JSON.stringify(camera.value);
                const wide = canvasSize.value.width === document.getElementById("scene").clientWidth;
                done(before === JSON.stringify(camera.value) && drawn && wide);
            }, 300);
        })""",
        timeout=60_000,
    )
    page.wait_for_timeout(300)
