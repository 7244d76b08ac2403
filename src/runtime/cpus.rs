//! Which CPUs the cores run on.

use super::error::StartError;
use glommio::CpuSet;

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU this process may use.
    All,
    /// That many. With more than there are CPUs, CPUs are named several times and no core is pinned.
    Count(usize),
    /// Exactly these.
    List(Vec<usize>),
}

/// One CPU per core, in ascending order unless listed otherwise.
///
/// # Errors
/// [`StartError::CpuNotAllowed`] for a listed CPU outside the cpuset or offline; [`StartError::NoCores`]
/// for none; [`StartError::CpusUnknown`] when the machine cannot be asked.
pub fn choose_cpus(cores: &Cores) -> Result<Vec<usize>, StartError> {
    let allowed = allowed_cpus()?;
    choose(cores, &allowed)
}

/// CPUs that are online and that this process may use.
fn allowed_cpus() -> Result<Vec<usize>, StartError> {
    let online = CpuSet::online().map_err(|_| StartError::CpusUnknown)?;
    let online: Vec<usize> = online.into_iter().map(|cpu| cpu.cpu).collect();
    let mut allowed: Vec<usize> = core_affinity::get_core_ids()
        .ok_or(StartError::CpusUnknown)?
        .into_iter()
        .map(|core| core.id)
        .filter(|cpu| online.contains(cpu))
        .collect();
    allowed.sort_unstable();
    if allowed.is_empty() { Err(StartError::CpusUnknown) } else { Ok(allowed) }
}

fn choose(cores: &Cores, allowed: &[usize]) -> Result<Vec<usize>, StartError> {
    let chosen: Vec<usize> = match cores {
        Cores::All => allowed.to_vec(),
        Cores::Count(count) => allowed.iter().copied().cycle().take(*count).collect(),
        Cores::List(list) => list.clone(),
    };
    if let Some(&cpu) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(StartError::CpuNotAllowed { cpu, allowed: allowed.to_vec() });
    }
    if chosen.is_empty() { Err(StartError::NoCores) } else { Ok(chosen) }
}

/// Whether each core can have a CPU of its own.
pub(super) fn distinct(cpus: &[usize]) -> bool {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() == cpus.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_table() {
        #[track_caller]
        fn check(cores: &Cores, want: Result<&[usize], &str>) {
            let got = choose(cores, &[0, 2, 5]).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{cores:?}");
        }
        check(&Cores::All, Ok(&[0, 2, 5]));
        check(&Cores::Count(2), Ok(&[0, 2]));
        check(&Cores::Count(3), Ok(&[0, 2, 5]));
        check(&Cores::Count(4), Ok(&[0, 2, 5, 0]));
        check(&Cores::Count(0), Err("no CPUs to run on: ask for at least one core"));
        check(&Cores::List(vec![5, 0]), Ok(&[5, 0]));
        check(&Cores::List(vec![]), Err("no CPUs to run on: ask for at least one core"));
        check(&Cores::List(vec![0, 1]), Err("CPU 1 may not be used by this process: choose from [0, 2, 5]"));
    }

    #[test]
    fn this_machine_has_cpus() {
        let cpus = choose_cpus(&Cores::All).expect("the test runs on some CPU");
        assert!(distinct(&cpus));
        assert!(!distinct(&choose_cpus(&Cores::Count(cpus.len() + 1)).expect("more cores than CPUs")));
    }
}
