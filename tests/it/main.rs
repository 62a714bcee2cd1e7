mod exposition;
mod full_view;
mod http;
mod page;
