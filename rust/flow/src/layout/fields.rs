//! How a struct of the tables is declared.

use std::net::Ipv4Addr;

use bytes::{Buf, BufMut};

/// A field of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// As both languages call it.
    pub name: &'static str,
    /// Bytes before it.
    pub offset: usize,
    /// Bytes of it.
    pub size: usize,
}

/// What can be a field.
pub(super) trait Value {
    /// Bytes of it.
    const SIZE: usize;

    /// Writes it, and goes on behind it.
    fn write(&self, to: &mut &mut [u8]);

    /// Reads it, and goes on behind it.
    fn read(from: &mut &[u8]) -> Self;

    /// So many, one behind the other.
    #[inline(always)]
    fn read_all<const N: usize>(from: &mut &[u8]) -> [Self; N]
    where
        Self: Sized,
    {
        std::array::from_fn(|_| Self::read(from))
    }
}

/// Declares a struct. Its size, where its fields are, and how it is written and read follow from the
/// fields and their order.
macro_rules! layout {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident {
            $($(#[$of_field:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$of_field])* $vis $field: $type,)*
        }

        impl $name {
            /// Bytes of it.
            $vis const SIZE: usize = <Self as Value>::SIZE;

            /// Where its fields are, in order.
            $vis const FIELDS: &[Field] = &{
                let mut offset = 0;
                [$({
                    let (name, size) = (stringify!($field), <$type>::SIZE);
                    offset += size;
                    Field { name, offset: offset - size, size }
                }),*]
            };

            /// As the table has it.
            #[must_use]
            $vis fn to_bytes(self) -> [u8; Self::SIZE] {
                let mut bytes = [0; Self::SIZE];
                self.write(&mut &mut bytes[..]);
                bytes
            }

            /// The opposite of `to_bytes`.
            #[must_use]
            $vis fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                Self::read(&mut &bytes[..])
            }
        }

        impl Value for $name {
            const SIZE: usize = 0 $(+ <$type>::SIZE)*;

            fn write(&self, to: &mut &mut [u8]) {
                $(self.$field.write(to);)*
            }

            // Each flow that moved is read each second: in the end these are moves in memory.
            #[inline(always)]
            fn read(from: &mut &[u8]) -> Self {
                Self { $($field: Value::read(from),)* }
            }
        }
    };
}

/// Lets a type be a field: it is written as another type, which `$to` makes of it, and `$from` is the
/// opposite.
macro_rules! written {
    ($type:ty as $other:ty, $to:expr, $from:expr) => {
        impl Value for $type {
            const SIZE: usize = <$other>::SIZE;

            fn write(&self, to: &mut &mut [u8]) {
                let other: fn(Self) -> $other = $to;
                other(*self).write(to);
            }

            #[inline(always)]
            fn read(from: &mut &[u8]) -> Self {
                let value: fn($other) -> Self = $from;
                value(Value::read(from))
            }
        }
    };
}

pub(super) use {layout, written};

/// Bytes that user space leaves alone: it writes zeros and doesn't look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved<const N: usize>;

written!(u16 as [u8; 2], Self::to_ne_bytes, Self::from_ne_bytes);
written!(u32 as [u8; 4], Self::to_ne_bytes, Self::from_ne_bytes);
written!(u64 as [u8; 8], Self::to_ne_bytes, Self::from_ne_bytes);
written!(bool as u32, u32::from, |number| number != 0);
written!(Ipv4Addr as [u8; 4], |ip| ip.octets(), Self::from);
written!(Reserved<1> as [u8; 1], |_| [0; 1], |_| Self);
written!(Reserved<2> as [u8; 2], |_| [0; 2], |_| Self);
written!(Reserved<4> as [u8; 4], |_| [0; 4], |_| Self);

impl Value for u8 {
    const SIZE: usize = 1;

    fn write(&self, to: &mut &mut [u8]) {
        to.put_u8(*self);
    }

    #[inline(always)]
    fn read(from: &mut &[u8]) -> Self {
        from.get_u8()
    }

    /// At once: of bytes every other field is made.
    #[inline(always)]
    fn read_all<const N: usize>(from: &mut &[u8]) -> [Self; N] {
        let mut bytes = [0; N];
        from.copy_to_slice(&mut bytes);
        bytes
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn write(&self, to: &mut &mut [u8]) {
        for value in self {
            value.write(to);
        }
    }

    #[inline(always)]
    fn read(from: &mut &[u8]) -> Self {
        T::read_all(from)
    }
}
