//! Exports of the vendor's library that are not modelled: they answer "unsupported".
//! Their prototypes are not public, so their arguments stay untouched.

use super::{Kind, call};
use crate::card::code::{Code, Module};

macro_rules! unsupported {
    ($($name:ident: $module:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> i32 {
                call(stringify!($name), Kind::Local, |_| Err(Code::unsupported(Module::$module)))
            }
        )*
    };
}

unsupported! {
    axclrtGetDeviceBusInfo: Device;
    axclrtGetDevicePidInfo: Device;
    axclrtControlExecuteShellCmd: System;
    axclrtConfigLoad: Config;
    axclrtConfigUnLoad: Config;
    axclrtConfigGetLogPath: Config;
    axclrtConfigGetLogLevel: Config;
    axclrtConfigGetDmaBufSize: Config;
    axclrtGetEnviromentByStream: Stream;
    axclrtCreateTask: Task;
    axclrtWaitTaskFinish: Task;
    axclrtGetTaskResponse: Task;
    axclrtDestoryTask: Task;
    axclrtTransferFile: System;
    axclrtExecWorker: Worker;
    axclrtKillWorker: Worker;
    axclrtWorkerSend: Worker;
    axclrtWorkerRecv: Worker;
    axclrtLog: Log;
    axclrtLatencyLoopback: Latency;
    axclrtEngineP2pBwTest: P2p;
    axclrtP2PTriggerTest: P2p;
    axclrtCreateP2PUnit: P2p;
    axclrtDestoryP2PUnit: P2p;
}
