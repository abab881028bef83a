"""Frames as bytes (RFC 9113 section 6) against what the `hyperframe` library reads, and the numbers of the RFC."""

import h2.errors
import h2.settings
import hyperframe.frame as hyperframe
import pytest

from gunicorn_asgi.wire import http2_frames as frames


def read(data: bytes) -> hyperframe.Frame:
    result, length = hyperframe.Frame.parse_frame_header(memoryview(data[:9]))
    result.parse_body(memoryview(data[9:]))
    assert len(data) == 9 + length
    return result


@pytest.mark.parametrize("code", frames.ErrorCode)
def test_error_codes_are_those_of_the_library(code: frames.ErrorCode) -> None:
    assert h2.errors.ErrorCodes(code).name == code.name
    assert getattr(frames, code.name) is code


def test_types_are_those_of_the_library() -> None:
    classes = {
        frames.DATA: hyperframe.DataFrame,
        frames.HEADERS: hyperframe.HeadersFrame,
        frames.PRIORITY: hyperframe.PriorityFrame,
        frames.RST_STREAM: hyperframe.RstStreamFrame,
        frames.SETTINGS: hyperframe.SettingsFrame,
        frames.PUSH_PROMISE: hyperframe.PushPromiseFrame,
        frames.PING: hyperframe.PingFrame,
        frames.GOAWAY: hyperframe.GoAwayFrame,
        frames.WINDOW_UPDATE: hyperframe.WindowUpdateFrame,
        frames.CONTINUATION: hyperframe.ContinuationFrame,
    }
    assert {kind: hyperframe.FRAMES[kind] for kind in classes} == classes


@pytest.mark.parametrize("setting", h2.settings.SettingCodes)
def test_settings_are_those_of_the_library(setting: h2.settings.SettingCodes) -> None:
    assert getattr(frames, f"SETTINGS_{setting.name}") == setting.value


def test_settings() -> None:
    parsed = read(frames.settings_frame({frames.SETTINGS_MAX_FRAME_SIZE: 16384, frames.SETTINGS_ENABLE_PUSH: 0}))
    assert isinstance(parsed, hyperframe.SettingsFrame)
    assert parsed.settings == {5: 16384, 2: 0}
    assert not parsed.flags
    acknowledgement = read(frames.SETTINGS_ACK)
    assert isinstance(acknowledgement, hyperframe.SettingsFrame)
    assert list(acknowledgement.flags) == ["ACK"]


@pytest.mark.parametrize("increment", [1, 2**31 - 1])
@pytest.mark.parametrize("stream_id", [0, 1, 2**31 - 1])
def test_window_update(stream_id: int, increment: int) -> None:
    parsed = read(frames.window_update_frame(stream_id, increment))
    assert isinstance(parsed, hyperframe.WindowUpdateFrame)
    assert (parsed.stream_id, parsed.window_increment) == (stream_id, increment)


def test_rst_stream() -> None:
    parsed = read(frames.rst_stream_frame(2**31 - 1, frames.CANCEL))
    assert isinstance(parsed, hyperframe.RstStreamFrame)
    assert (parsed.stream_id, parsed.error_code) == (2**31 - 1, 8)


@pytest.mark.parametrize("ack", [False, True])
def test_ping(ack: bool) -> None:
    parsed = read(frames.ping_frame(b"\x00\xff345678", ack=ack))
    assert isinstance(parsed, hyperframe.PingFrame)
    assert (parsed.opaque_data, list(parsed.flags)) == (b"\x00\xff345678", ["ACK"] if ack else [])


def test_goaway() -> None:
    parsed = read(frames.goaway_frame(2**31 - 1, frames.ENHANCE_YOUR_CALM, b"why"))
    assert isinstance(parsed, hyperframe.GoAwayFrame)
    assert (parsed.last_stream_id, parsed.error_code, parsed.additional_data) == (2**31 - 1, 11, b"why")


@pytest.mark.parametrize("length", [0, 1, 255, 256, 16384, 2**24 - 1])
def test_length_of_a_frame(length: int) -> None:
    parsed = read(frames.frame(frames.DATA, frames.FLAG_END_STREAM, 1, bytes(length)))
    assert isinstance(parsed, hyperframe.DataFrame)
    assert (len(parsed.data), list(parsed.flags)) == (length, ["END_STREAM"])
