//! `osagent:browser/browser` and `osagent:input/input`: known by name, and not there. Each try is a call like any other, so
//! that the broker counts and records it; its answer is a typed `unavailable`.

#![forbid(unsafe_code)]

use super::Never;
use super::bindings::osagent::browser::browser;
use super::bindings::osagent::input::input;
use crate::worker::call::Fault;
use crate::worker::guest::Guest;
use warden_proto::msg::worker::Origin;
use wasmtime::component::Resource;

impl Guest {
    fn absent<T>(&mut self, capability: &str) -> Result<T, Fault> {
        Err(self.link.absent(Origin::Import, capability))
    }
}

type Session = Resource<Never>;
type Element = Resource<Never>;

impl browser::HostSession for Guest {
    fn close(&mut self, _: Session) -> wasmtime::Result<()> {
        Ok(())
    }

    fn goto(&mut self, _: Session, _: String, _: Option<u64>) -> Result<browser::PageState, Fault> {
        self.absent("browser.session.goto")
    }

    fn describe_page(&mut self, _: Session, _: bool) -> Result<browser::PageState, Fault> {
        self.absent("browser.session.describe_page")
    }

    fn screenshot(&mut self, _: Session, _: browser::ScreenshotKind) -> Result<browser::Screenshot, Fault> {
        self.absent("browser.session.screenshot")
    }

    fn eval(&mut self, _: Session, _: String) -> Result<String, Fault> {
        self.absent("browser.session.eval")
    }

    fn find(&mut self, _: Session, _: browser::Selector, _: Option<u64>) -> Result<Element, Fault> {
        self.absent("browser.session.find")
    }

    fn query_all(&mut self, _: Session, _: browser::Selector) -> Result<Vec<Element>, Fault> {
        self.absent("browser.session.query_all")
    }

    fn drop(&mut self, _: Session) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl browser::HostElementHandle for Guest {
    fn click(&mut self, _: Element) -> Result<(), Fault> {
        self.absent("browser.element.click")
    }

    fn type_text(&mut self, _: Element, _: String, _: bool) -> Result<(), Fault> {
        self.absent("browser.element.type_text")
    }

    fn clear(&mut self, _: Element) -> Result<(), Fault> {
        self.absent("browser.element.clear")
    }

    fn attribute(&mut self, _: Element, _: String) -> Result<Option<String>, Fault> {
        self.absent("browser.element.attribute")
    }

    fn inner_text(&mut self, _: Element) -> Result<String, Fault> {
        self.absent("browser.element.inner_text")
    }

    fn html(&mut self, _: Element) -> Result<String, Fault> {
        self.absent("browser.element.html")
    }

    fn drop(&mut self, _: Element) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl browser::Host for Guest {
    fn open_session(&mut self, _: browser::SessionOptions) -> Result<Session, Fault> {
        self.absent("browser.open_session")
    }
}

impl input::Host for Guest {
    fn key_sequence(&mut self, _: String) -> Result<(), Fault> {
        self.absent("input.key_sequence")
    }

    fn send_key_chord(&mut self, _: input::KeyChord) -> Result<(), Fault> {
        self.absent("input.send_key_chord")
    }

    fn mouse_move(&mut self, _: input::PointerMove) -> Result<(), Fault> {
        self.absent("input.mouse_move")
    }

    fn mouse_click(&mut self, _: input::MouseButton, _: Option<u64>) -> Result<(), Fault> {
        self.absent("input.mouse_click")
    }

    fn mouse_scroll(&mut self, _: input::ScrollDelta) -> Result<(), Fault> {
        self.absent("input.mouse_scroll")
    }
}
